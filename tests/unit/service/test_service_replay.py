"""The provider takes a token once: a second time, from fifty at once, after a start."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from network.server.listener import serving_in_thread
from protocol.identity.keys import PrivateKey
from protocol.identity.service_auth import create_service_jwt
from protocol.syntax import Did, Nsid
from service.provider import create_app
from service.runtime.config import Config

ALICE = Did("did:plc:" + "a" * 24)
KEY = PrivateKey.from_bytes("k256", bytes(31) + b"\x05")
SEARCH = Nsid("app.bsky.feed.searchPosts")
PATH = f"/xrpc/{SEARCH}?q=hello"


async def answer(request: Request) -> JSONResponse:
    """A directory that knows one account."""
    return JSONResponse(
        {
            "id": ALICE,
            "alsoKnownAs": ["at://alice.test"],
            "verificationMethod": [
                {
                    "id": f"{ALICE}#atproto",
                    "type": "Multikey",
                    "controller": ALICE,
                    "publicKeyMultibase": KEY.public.multikey,
                }
            ],
            "service": [],
        }
    )


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    directory = Starlette(routes=[Route("/{path:path}", answer)])
    with serving_in_thread(directory) as url:
        yield Config.read(home=tmp_path, dev_network=True, plc_url=url)


def make_token(config: Config, **options: str) -> str:
    return create_service_jwt(
        iss=ALICE,
        aud=f"{config.provider_did}#bsky_appview",
        lxm=SEARCH,
        key=KEY,
        now=int(time.time()),
        **options,
    )


def call(url: str, token: str | None) -> tuple[int, str]:
    """(status, name of the error)."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        request = urllib.request.Request(url + PATH, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["error"]


REFUSED = (401, "BadJwt")


def test_a_token_is_good_once_for_all_processes(config: Config, index_db: str) -> None:
    first, second = make_token(config), make_token(config)
    with serving_in_thread(create_app(config, index_db)) as one:
        assert call(one, None) == (200, ""), "search needs no token"
        assert call(one, first) == (200, "")
        assert call(one, first) == REFUSED
        # Another process on the same database, at the same time.
        with serving_in_thread(create_app(config, index_db)) as two:
            assert call(two, first) == REFUSED
            assert call(two, second) == (200, "")
            assert call(one, second) == REFUSED
    with serving_in_thread(create_app(config, index_db)) as again:
        assert call(again, first) == REFUSED
        assert call(again, second) == REFUSED
        assert call(again, make_token(config)) == (200, "")


def test_of_fifty_requests_with_one_token_one_gets_in(
    config: Config, index_db: str
) -> None:
    with (
        serving_in_thread(create_app(config, index_db)) as one,
        serving_in_thread(create_app(config, index_db)) as two,
        ThreadPoolExecutor(50) as threads,
    ):
        for url in (one, two):
            assert call(url, make_token(config)) == (200, "")
        token = make_token(config)
        replies = threads.map(call, [one, two] * 25, [token] * 50)
        assert Counter(replies) == {(200, ""): 1, REFUSED: 49}
