"""getFeed of a feed that another service computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from appview_world import Generator, Provider, RefusedError
from small_world import FOREIGN_SERVICE, SERVICE

from appview.app import ForeignItem, ForeignSkeleton
from network.xrpc.server import XrpcError

FEED = "app.bsky.feed.getFeed"
DEFS = "app.bsky.feed.defs"

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def generator(provider: Provider) -> Iterator[Generator]:
    before = provider.generator.pages
    provider.generator.asked.clear()
    yield provider.generator
    provider.generator.pages = before


@pytest.fixture
def ask(provider: Provider, generator: Generator) -> Ask:
    """Return `ask(*pages, viewer=…)`: the answer to getFeed with these pages to
    come."""

    def ask(*pages: ForeignSkeleton | XrpcError, **options: Any) -> dict[str, Any]:
        generator.pages = [*pages]
        answer: dict[str, Any] = provider.get(
            FEED, feed=provider.uris["feed_foreign"], **options
        )
        return answer

    return ask


def test_foreign_feed_keeps_context_and_request_id(
    provider: Provider, ask: Ask
) -> None:
    uris = provider.uris
    page = ForeignSkeleton(
        [
            ForeignItem(uris["picture"], pinned=True, context="ctx"),
            ForeignItem(uris["hello"], uris["repost"]),
        ],
        "more",
        "req-1",
    )
    answer = ask(page)
    first, second = answer["feed"]
    assert (first["feedContext"], first["reqId"]) == ("ctx", "req-1")
    assert first["reason"] == {"$type": f"{DEFS}#reasonPin"}
    assert (second["reqId"], "feedContext" in second) == ("req-1", False)
    assert second["reason"]["$type"] == f"{DEFS}#reasonRepost"
    assert answer["cursor"] == "more"


def test_foreign_feed_drops_invented_reposts(provider: Provider, ask: Ask) -> None:
    uris = provider.uris
    like = uris["repost"].replace("feed.repost", "feed.like")
    claims = [
        ForeignItem(uris["picture"], uris["repost"]),
        ForeignItem(uris["hello"], uris["repost"][:-1] + "2"),
        ForeignItem(uris["hello"], like),
        ForeignItem(uris["external"]),
    ]
    feed = ask(ForeignSkeleton(claims))["feed"]
    assert [entry["post"]["uri"] for entry in feed] == [uris["external"]]


def test_token_for_the_feed_service_names_the_viewer(
    provider: Provider, ask: Ask, generator: Generator
) -> None:
    page = ForeignSkeleton([ForeignItem(provider.uris["picture"])])
    headers = {
        "authorization": "Bearer abc",
        "accept-language": "de",
        "x-bsky-topics": "cats",
        "cookie": "secret",
    }
    aud = {"x-aud": f"{FOREIGN_SERVICE}#bsky_fg"}
    answer = ask(page, viewer="alice", headers=headers | aud)
    assert "like" in answer["feed"][0]["post"]["viewer"]
    kept = {"accept-language": "de", "x-bsky-topics": "cats"}
    assert generator.asked[0]["headers"] == kept | {"authorization": "Bearer abc"}
    # A token for another service is not forwarded.
    for aud in (SERVICE, "did:web:third.example.com"):
        generator.asked.clear()
        ask(page, viewer="alice", headers=headers | {"x-aud": aud})
        assert generator.asked[0]["headers"] == kept
    with pytest.raises(RefusedError):
        ask(XrpcError("UnknownFeed", "no", 400))


def test_foreign_feed_skips_pages_without_shown_items(
    provider: Provider, ask: Ask, generator: Generator
) -> None:
    hidden = ForeignItem(provider.uris["dans"])
    shown = ForeignItem(provider.uris["hello"])
    pages = [ForeignSkeleton([hidden], "1"), ForeignSkeleton([shown], "2")]
    answer = ask(*pages)
    assert (len(answer["feed"]), answer["cursor"]) == (1, "2")
    assert [asked["cursor"] for asked in generator.asked] == [None, "1"]
    # The service may refuse a second page for one token.
    answer = ask(pages[0], XrpcError("BadJwt", "used before", 401))
    assert answer == {"feed": []}
    generator.asked.clear()
    assert ask(pages[0])["feed"] == []
    assert len(generator.asked) == 3
