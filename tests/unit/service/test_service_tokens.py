"""Service tokens at the provider: whose are accepted, and what each may call."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from network.server.listener import serving_in_thread
from protocol.identity.keys import PrivateKey
from protocol.identity.service_auth import create_service_jwt
from protocol.syntax import Did, Nsid
from service.operator_errors import ConfigError
from service.provider import audiences, create_app
from service.runtime.config import Config
from storage.postgres.pool import Conn

ALICE = Did("did:plc:" + "a" * 24)
AWAY = Did("did:plc:" + "c" * 24)
KEY = PrivateKey.from_bytes("k256", bytes(31) + b"\x05")
POSTS = "app.bsky.feed.getPosts"
PROFILES = "app.bsky.actor.getProfiles"
LIKES = "app.bsky.feed.getLikes"
FEED = "app.bsky.feed.getFeed"
SKELETON = "app.bsky.feed.getFeedSkeleton"
OWN_FEED = "at://did:web:localhost%253A2580/app.bsky.feed.generator/latest"
QUERIES = {
    POSTS: f"?uris=at://{ALICE}/app.bsky.feed.post/3kaaaaaaaaa22",
    PROFILES: f"?actors={ALICE}",
    LIKES: f"?uri=at://{ALICE}/app.bsky.feed.post/3kaaaaaaaaa22",
    FEED: f"?feed={OWN_FEED}",
    SKELETON: f"?feed={OWN_FEED}",
}


async def answer(request: Request) -> JSONResponse:
    """A directory in which one account is away."""
    did = request.path_params["path"]
    if did == AWAY:
        return JSONResponse({}, 500)
    key = {
        "id": f"{did}#atproto",
        "type": "Multikey",
        "controller": did,
        "publicKeyMultibase": KEY.public.multikey,
    }
    return JSONResponse({"id": did, "verificationMethod": [key], "service": []})


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    directory = Starlette(routes=[Route("/{path:path}", answer)])
    with serving_in_thread(directory) as url:
        yield Config.read(home=tmp_path, dev_network=True, plc_url=url)


@pytest.fixture
def url(config: Config, index_db: str) -> Iterator[str]:
    with serving_in_thread(create_app(config, index_db)) as served:
        yield served


Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(config: Config, url: str) -> Ask:
    """`ask(nsid, lxm=…, aud=…)`: (status, name of the error)."""

    def ask(nsid: str, **changes: Any) -> tuple[int, str]:
        token = create_service_jwt(
            **{
                "iss": ALICE,
                "aud": config.provider_did,
                "lxm": Nsid(nsid),
                "key": KEY,
                "now": int(time.time()),
                **changes,
            }
        )
        request = urllib.request.Request(
            f"{url}/xrpc/{nsid}{QUERIES[nsid]}",
            headers={"Authorization": f"Bearer {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, ""
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["error"]

    return ask


def test_chat_methods_may_read_posts_and_profiles(ask: Ask) -> None:
    chat = Nsid("chat.bsky.convo.getConvo")
    assert ask(POSTS, lxm=chat) == (200, "")
    assert ask(PROFILES, lxm=chat, lifetime=3_600) == (200, "")
    assert ask(LIKES, lxm=chat) == (401, "BadJwtLexiconMethod")


def test_feed_is_read_with_a_token_for_its_service(config: Config, ask: Ask) -> None:
    assert config.provider_did == "did:web:localhost%3A2580"
    theirs = "did:web:feeds.example.com"
    for aud in (theirs, f"{theirs}#bsky_fg", config.provider_did):
        for lxm in (FEED, SKELETON):
            assert ask(FEED, aud=aud, lxm=Nsid(lxm)) == (200, "")
    assert ask(FEED, aud=theirs, lxm=Nsid(POSTS)) == (401, "BadJwtLexiconMethod")
    assert ask(FEED, aud=theirs, now=1_000_000) == (401, "JwtExpired")
    assert ask(SKELETON) == (200, "")
    assert ask(SKELETON, aud=theirs) == (401, "BadJwtAudience")


def test_audience_may_be_written_without_escapes(config: Config, ask: Ask) -> None:
    did = config.provider_did
    assert "%3A" in did
    for aud in (did.replace("%3A", ":"), f"{did}%23bsky_appview"):
        assert ask(LIKES, aud=aud) == (200, "")
    assert ask(LIKES, aud=f"{did}#other") == (401, "BadJwtAudience")


def test_inactive_and_unreachable_issuers_are_refused(ask: Ask, conn: Conn) -> None:
    refused = (401, "AuthenticationRequired")
    assert ask(LIKES) == (200, "")
    conn.execute(
        "INSERT INTO actor (did, upstream_status) VALUES (%s, 'deactivated')", (ALICE,)
    )
    conn.commit()
    assert ask(LIKES) == refused
    conn.execute("UPDATE actor SET upstream_status = 'throttled'")
    conn.commit()
    assert ask(LIKES) == (200, "")
    conn.execute("UPDATE actor SET takedown = now()")
    conn.commit()
    assert ask(LIKES) == refused
    assert ask(LIKES, iss=AWAY) == refused


def test_audiences_can_be_configured(tmp_path: Path) -> None:
    config = Config.read(
        home=tmp_path,
        dev_network=True,
        audiences="did:web:old.example.com,did:web:x.example.com#only",
    )
    names = audiences(config)
    assert {
        config.provider_did,
        f"{config.provider_did}#bigworld",
        "did:web:old.example.com#bsky_appview",
        "did:web:x.example.com#only",
    } <= names
    assert "did:web:x.example.com" not in names
    with pytest.raises(ConfigError, match="audiences"):
        Config.read(home=tmp_path, audiences="old.example.com")
