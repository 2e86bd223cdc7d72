"""Home timeline, feed of a list, own likes, quotes, and feeds of an account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from feed_world import fill
from small_world import SERVICE, did

TIMELINE = "app.bsky.feed.getTimeline"
LIKES = "app.bsky.feed.getActorLikes"
LIST_FEED = "app.bsky.feed.getListFeed"
QUOTES = "app.bsky.feed.getQuotes"
FEEDS = "app.bsky.feed.getActorFeeds"
SAMES = [f"same {n}" for n in (4, 3, 2, 1, 0)]
QUOTES_AT_ONCE = [f"quote {n}" for n in (2, 1, 0)]
FAR = "of an account that she does not follow"


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill) as provider:
        yield provider
    databases.drop(url)


def texts(items: list[dict[str, Any]]) -> list[str]:
    """Return the texts of feed items; those of reposts in brackets."""
    return [
        f"[{text}]" if "reason" in item else text
        for item in items
        for text in [item.get("post", item)["record"]["text"]]
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_timeline_merges_posts_and_reposts_by_time(
    provider: Provider, limit: int
) -> None:
    items = provider.pages(TIMELINE, "feed", viewer="vera", limit=limit)
    assert texts(items) == [
        # A time after its indexing counts as the time of indexing.
        "2148",
        *QUOTES_AT_ONCE,
        *SAMES,
        "with media",
        "ann quotes",
        f"[{FAR}]",
        "under gone",
        "own",
        "reply out",
        "anns",
        "1066",
    ]


def test_timeline_leaves_out_blocks_of_authors_reposters_and_ancestors(
    provider: Provider,
) -> None:
    items = provider.pages(TIMELINE, "feed", viewer="vera")
    assert {"bad", "mal", "[mal]", "dan", "under bad"}.isdisjoint(texts(items))
    by = [i["reason"]["by"]["did"] for i in items if "reason" in i]
    assert by == [did("ben")]
    gone = next(i for i in items if i["post"]["record"]["text"] == "under gone")
    kinds = {gone["reply"][part]["$type"] for part in ("root", "parent")}
    assert kinds == {"app.bsky.feed.defs#notFoundPost"}


def test_timeline_leaves_out_muted_accounts_and_reposts(provider: Provider) -> None:
    def shown() -> list[str]:
        return texts(provider.pages(TIMELINE, "feed", viewer="vera"))

    mute, unmute = "app.bsky.graph.muteActor", "app.bsky.graph.unmuteActor"
    everything = shown()
    provider.post(mute, {"actor": did("ben"), "onlyReposts": True}, viewer="vera")
    assert shown() == [t for t in everything if t != f"[{FAR}]"]
    provider.post(mute, {"actor": did("tess")}, viewer="vera")
    assert {*SAMES, "1066"}.isdisjoint(shown())
    for name in ("ben", "tess"):
        provider.post(unmute, {"actor": did(name)}, viewer="vera")
    assert shown() == everything


def test_timeline_needs_a_viewer_and_an_own_cursor(provider: Provider) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(TIMELINE)
    assert refused.value.status == 401
    with pytest.raises(RefusedError) as refused:
        provider.get(TIMELINE, viewer="vera", cursor="x")
    assert (refused.value.status, refused.value.name) == (400, "InvalidCursor")
    assert provider.get(TIMELINE, viewer="unknown") == {"feed": []}


@pytest.mark.parametrize(
    ("nsid", "params"),
    [
        (TIMELINE, {}),
        (LIKES, {"actor": did("vera")}),
        (LIST_FEED, {"list": f"at://{did('foe')}/app.bsky.graph.list/my-list"}),
        ("app.bsky.feed.getAuthorFeed", {"actor": did("ann")}),
    ],
)
def test_feeds_tell_the_revision_of_the_viewer(
    provider: Provider, nsid: str, params: dict[str, Any]
) -> None:
    _, headers = provider.ask(nsid, viewer="vera", **params)
    assert len(headers["atproto-repo-rev"]) == 13


def test_missing_thread_tells_the_revision_of_the_viewer(provider: Provider) -> None:
    uri = f"at://{did('ann')}/app.bsky.feed.post/none"
    with pytest.raises(RefusedError) as refused:
        provider.get("app.bsky.feed.getPostThread", uri=uri, viewer="vera")
    assert refused.value.name == "NotFound"
    assert len(refused.value.headers["atproto-repo-rev"]) == 13


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_list_feed_shows_posts_of_members_without_reposts(
    provider: Provider, limit: int
) -> None:
    uri = provider.uris["list"]
    shown = texts(provider.pages(LIST_FEED, "feed", list=uri, limit=limit))
    # Ben blocks the owner of the list.
    assert "with media" not in shown
    assert not any(text.startswith("[") for text in shown)
    assert {"anns", "reply out", "bad", "mal", "under bad", *SAMES} <= {*shown}
    assert {"dan", "own", FAR}.isdisjoint(shown)
    assert len(shown) == len({*shown})


def test_list_feed_obeys_the_blocks_of_the_viewer(provider: Provider) -> None:
    uri = f"at://foe.test/{provider.uris['list'].split('/', 3)[3]}"
    shown = texts(provider.pages(LIST_FEED, "feed", list=uri, viewer="vera"))
    assert {"bad", "mal", "under bad"}.isdisjoint(shown)
    assert {"anns", "reply out"} <= {*shown}


@pytest.mark.parametrize("path", ["app.bsky.graph.list/none", "app.bsky.feed.post/x"])
def test_feed_of_an_unknown_list_is_empty(provider: Provider, path: str) -> None:
    for name in ("foe", "unknown"):
        uri = f"at://{did(name)}/{path}"
        assert provider.get(LIST_FEED, list=uri) == {"feed": []}


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("actor", [did("vera"), "vera.test"])
def test_own_likes_are_shown_newest_first_and_once(
    provider: Provider, limit: int, actor: str
) -> None:
    items = provider.pages(LIKES, "feed", actor=actor, limit=limit, viewer="vera")
    assert texts(items) == ["reply out", "anns", FAR]


def test_likes_of_others_are_refused(provider: Provider) -> None:
    for viewer in (None, "ann"):
        with pytest.raises(RefusedError) as refused:
            provider.get(LIKES, actor=did("vera"), viewer=viewer)
        error = refused.value
        assert (error.status, error.message) == (400, "Profile not found")
    answer = provider.get(LIKES, actor=did("unknown"), viewer="unknown")
    assert answer == {"feed": []}


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_quotes_are_shown_newest_first(provider: Provider, limit: int) -> None:
    uri = provider.uris["far"]
    shown = texts(provider.pages(QUOTES, "posts", uri=uri, limit=limit))
    # Foe and the author of the post block each other, and Dan is deactivated.
    names = ("out", "bad", "mal", "ann")
    quotes = [f"{name} quotes" for name in names]
    assert shown == [*QUOTES_AT_ONCE, "with media", *quotes]


def test_quotes_obey_the_blocks_of_the_viewer(provider: Provider) -> None:
    uri = provider.uris["far"]
    shown = texts(provider.pages(QUOTES, "posts", uri=uri, viewer="vera"))
    assert {"bad quotes", "mal quotes"}.isdisjoint(shown)
    answer = provider.get(QUOTES, uri=f"at://{did('out')}/app.bsky.feed.post/none")
    assert answer["posts"] == []


@pytest.mark.parametrize("limit", [1, 2])
def test_feeds_of_an_account_are_shown_newest_first(
    provider: Provider, limit: int
) -> None:
    feeds = provider.pages(FEEDS, "feeds", actor=did("ann"), limit=limit)
    assert [feed["displayName"] for feed in feeds] == ["second", "first"]
    assert provider.get(FEEDS, actor="ben.test") == {"feeds": []}
    with pytest.raises(RefusedError, match="Profile not found"):
        provider.get(FEEDS, actor=did("unknown"))


@pytest.mark.parametrize("limit", [1, 100])
def test_feeds_of_the_provider_need_no_record(provider: Provider, limit: int) -> None:
    feeds = provider.pages(FEEDS, "feeds", actor=SERVICE, limit=limit)
    assert {feed["displayName"] for feed in feeds} >= {"Following", "Latest"}
