"""Service tokens at the provider: accepted issuers, audiences and methods, one use."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
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
SEARCH = "app.bsky.feed.searchPosts"
FEED = "app.bsky.feed.getFeed"
SKELETON = "app.bsky.feed.getFeedSkeleton"
OWN_FEED = "at://did:web:localhost%253A2580/app.bsky.feed.generator/latest"
QUERIES = {
    POSTS: f"?uris=at://{ALICE}/app.bsky.feed.post/3kaaaaaaaaa22",
    PROFILES: f"?actors={ALICE}",
    LIKES: f"?uri=at://{ALICE}/app.bsky.feed.post/3kaaaaaaaaa22",
    SEARCH: "?q=hello",
    FEED: f"?feed={OWN_FEED}",
    SKELETON: f"?feed={OWN_FEED}",
}
Reply = tuple[int, str]
OK: Reply = (200, "")
REPLAYED: Reply = (401, "BadJwt")


async def resolve(request: Request) -> JSONResponse:
    """Serve a directory in which the account AWAY is unavailable."""
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
    directory = Starlette(routes=[Route("/{path:path}", resolve)])
    with serving_in_thread(directory) as url:
        yield Config.read(home=tmp_path, dev_network=True, plc_url=url)


@pytest.fixture
def url(config: Config, index_db: str) -> Iterator[str]:
    with serving_in_thread(create_app(config, index_db)) as served:
        yield served


def make_token(config: Config, nsid: str, **changes: Any) -> str:
    return create_service_jwt(
        **{
            "iss": ALICE,
            "aud": config.provider_did,
            "lxm": Nsid(nsid),
            "key": KEY,
            "now": int(time.time()),
            **changes,
        }
    )


def call(url: str, nsid: str, token: str | None) -> Reply:
    """Return the status, and the name of the error."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    target = f"{url}/xrpc/{nsid}{QUERIES[nsid]}"
    reply = httpx.get(target, headers=headers, timeout=60)
    return reply.status_code, "" if reply.is_success else reply.json()["error"]


Ask = Callable[..., Reply]


@pytest.fixture
def ask(config: Config, url: str) -> Ask:
    """Return a function that calls a method with a token: `ask(nsid, lxm=…, aud=…)`."""
    return lambda nsid, **changes: call(url, nsid, make_token(config, nsid, **changes))


def test_chat_methods_may_read_posts_and_profiles(ask: Ask) -> None:
    chat = Nsid("chat.bsky.convo.getConvo")
    assert ask(POSTS, lxm=chat) == OK
    assert ask(PROFILES, lxm=chat, lifetime=3_600) == OK
    assert ask(LIKES, lxm=chat) == (401, "BadJwtLexiconMethod")


def test_feed_accepts_a_token_for_its_service(config: Config, ask: Ask) -> None:
    assert config.provider_did == "did:web:localhost%3A2580"
    theirs = "did:web:feeds.example.com"
    for aud in (theirs, f"{theirs}#bsky_fg", config.provider_did):
        for lxm in (FEED, SKELETON):
            assert ask(FEED, aud=aud, lxm=Nsid(lxm)) == OK
    assert ask(FEED, aud=theirs, lxm=Nsid(POSTS)) == (401, "BadJwtLexiconMethod")
    assert ask(FEED, aud=theirs, now=1_000_000) == (401, "JwtExpired")
    assert ask(SKELETON) == OK
    assert ask(SKELETON, aud=theirs) == (401, "BadJwtAudience")


def test_audience_is_accepted_without_escapes(config: Config, ask: Ask) -> None:
    did = config.provider_did
    assert "%3A" in did
    for aud in (did.replace("%3A", ":"), f"{did}%23bsky_appview"):
        assert ask(LIKES, aud=aud) == OK
    assert ask(LIKES, aud=f"{did}#other") == (401, "BadJwtAudience")


def test_inactive_and_unreachable_issuers_are_refused(ask: Ask, conn: Conn) -> None:
    refused = (401, "AuthenticationRequired")
    assert ask(LIKES) == OK
    conn.execute(
        "INSERT INTO actor (did, upstream_status) VALUES (%s, 'deactivated')", (ALICE,)
    )
    conn.commit()
    assert ask(LIKES) == refused
    conn.execute("UPDATE actor SET upstream_status = 'throttled'")
    conn.commit()
    assert ask(LIKES) == OK
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


def test_token_is_accepted_once_by_all_processes(config: Config, index_db: str) -> None:
    first, second = make_token(config, SEARCH), make_token(config, SEARCH)
    with serving_in_thread(create_app(config, index_db)) as one:
        assert call(one, SEARCH, None) == OK, "search needs no token"
        assert call(one, SEARCH, first) == OK
        assert call(one, SEARCH, first) == REPLAYED
        # Another process on the same database, at the same time.
        with serving_in_thread(create_app(config, index_db)) as two:
            assert call(two, SEARCH, first) == REPLAYED
            assert call(two, SEARCH, second) == OK
            assert call(one, SEARCH, second) == REPLAYED
    with serving_in_thread(create_app(config, index_db)) as again:
        assert call(again, SEARCH, first) == REPLAYED
        assert call(again, SEARCH, second) == REPLAYED
        assert call(again, SEARCH, make_token(config, SEARCH)) == OK


def test_concurrent_requests_with_one_token_are_accepted_once(
    config: Config, url: str, index_db: str
) -> None:
    with (
        serving_in_thread(create_app(config, index_db)) as other,
        ThreadPoolExecutor(50) as threads,
    ):
        for each in (url, other):
            assert call(each, SEARCH, make_token(config, SEARCH)) == OK
        token = make_token(config, SEARCH)
        replies = threads.map(
            lambda n: call((url, other)[n % 2], SEARCH, token), range(50)
        )
        assert Counter(replies) == {OK: 1, REPLAYED: 49}
