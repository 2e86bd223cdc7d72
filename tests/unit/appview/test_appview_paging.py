"""Pages: every item once, full, in order, and an end without a cursor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from paging_world import YEARS, fill
from small_world import did

from feeds.registry import FEEDS

AUTHOR = "app.bsky.feed.getAuthorFeed"
FEED = "app.bsky.feed.getFeed"
SKELETON = "app.bsky.feed.getFeedSkeleton"
SEARCH = "app.bsky.feed.searchPosts"
FOLLOWERS = "app.bsky.graph.getFollowers"
LIKES = "app.bsky.feed.getLikes"


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={}) as provider:
        yield provider
    databases.drop(url)


def read_all(
    provider: Provider, nsid: str, name: str, **params: Any
) -> list[dict[str, Any]]:
    """Return all items; fail on an empty page beside the first, or one with a
    cursor."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    for _ in range(60):
        answer = provider.get(nsid, **params, **cursor)
        assert len(answer[name]) <= params["limit"]
        assert answer[name] or "cursor" not in answer
        if "cursor" in answer:
            assert len(answer[name]) == params["limit"]
        items += answer[name]
        if "cursor" not in answer:
            return items
        cursor = {"cursor": answer["cursor"]}
    raise AssertionError(f"{nsid} does not end")


def keys(items: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    return [(i["post"]["record"]["text"], "reason" in i) for i in items]


def own_feed(name: str) -> str:
    assert name in FEEDS
    return f"at://did:web:provider.example.com/app.bsky.feed.generator/{name}"


@pytest.mark.parametrize("limit", [1, 2, 3, 30])
def test_author_feed_and_following_keep_equal_times(
    provider: Provider, limit: int
) -> None:
    expected = {(f"same {n}", False) for n in range(9)}
    expected |= {(f"{year} {n}", False) for year in YEARS for n in range(2)}
    expected |= {("to be reposted", True), ("reposted twice", True)}
    feed = read_all(provider, AUTHOR, "feed", actor=did("tess"), limit=limit)
    assert len(feed) == len(expected)
    assert set(keys(feed)) == expected
    # A repost stands at its time, not at that of its key.
    assert {text for text, _ in keys(feed)[:2]} == {"2148 0", "2148 1"}
    assert [text[:4] for text, _ in keys(feed)[-6:]] == [
        *("1969", "1969", "1683", "1683", "1066", "1066")
    ]
    following = read_all(
        provider, FEED, "feed", feed=own_feed("following"), viewer="vera", limit=limit
    )
    assert set(keys(following)) == expected
    assert [k for k in keys(following) if k in keys(feed)][:2] == keys(feed)[:2]


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_search_fills_its_pages_around_hidden_posts(
    provider: Provider, limit: int
) -> None:
    expected = [f"zebra {number}" for number in range(6, -1, -1)]
    for sort in ("latest", "top"):
        found = read_all(
            provider, SEARCH, "posts", q="zebra", sort=sort, viewer="vera", limit=limit
        )
        texts = [post["record"]["text"] for post in found]
        assert sorted(texts, reverse=True) == expected
        assert sort == "top" or texts == expected


def test_many_hidden_posts_do_not_end_a_list(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appview.paging.MAX_FETCH", 2)
    monkeypatch.setattr("appview.paging.MAX_SECONDS", 60.0)
    # Forty hidden posts come before the first that is shown.
    found = provider.get(SEARCH, q="zebra", viewer="vera", limit=1)
    assert found["posts"][0]["record"]["text"] == "zebra 6"


def test_list_without_time_left_goes_on_by_cursor(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appview.paging.MAX_FETCH", 2)
    monkeypatch.setattr("appview.paging.MAX_SECONDS", -1.0)
    found: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(60):
        page = provider.get(SEARCH, q="zebra", viewer="vera", limit=1, **cursor)
        found += [post["record"]["text"] for post in page["posts"]]
        if "cursor" not in page:
            break
        cursor = {"cursor": page["cursor"]}
    assert found == [f"zebra {number}" for number in range(6, -1, -1)]


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_followers_and_likes_fill_their_pages(provider: Provider, limit: int) -> None:
    fans = {f"fan{number}.test" for number in range(3)}
    found = read_all(
        provider, FOLLOWERS, "followers", actor=did("ann"), viewer="vera", limit=limit
    )
    assert len(found) == 3
    assert {actor["handle"] for actor in found} == fans
    [liked] = [
        post["uri"]
        for post in provider.get(SEARCH, q="zebra", limit=100)["posts"]
        if post["record"]["text"] == "zebra 0"
    ]
    likes = read_all(provider, LIKES, "likes", uri=liked, viewer="vera", limit=limit)
    assert {like["actor"]["handle"] for like in likes} == fans
    everybody = read_all(provider, LIKES, "likes", uri=liked, limit=limit)
    assert len(everybody) == 15


@pytest.mark.parametrize("name", ["latest", "popular"])
def test_own_feeds_fill_their_pages(provider: Provider, name: str) -> None:
    params = {"feed": own_feed(name), "viewer": "vera"}
    whole = read_all(provider, FEED, "feed", limit=100, **params)
    assert whole
    assert "mal.test" not in {i["post"]["author"]["handle"] for i in whole}
    for limit in (1, 7):
        assert read_all(provider, FEED, "feed", limit=limit, **params) == whole
    skeleton = read_all(provider, SKELETON, "feed", limit=6, **params)
    everything = [entry["post"] for entry in skeleton]
    assert len(everything) == len(set(everything))
    assert {i["post"]["uri"] for i in whole} <= set(everything)


def test_page_of_hidden_posts_alone_ends_the_feed(provider: Provider) -> None:
    found = provider.get(SEARCH, q="zebra mal", viewer="vera", limit=5)
    assert found == {"posts": [], "hitsTotal": 40}


def test_cursors_are_bound_to_their_list(provider: Provider) -> None:
    first = provider.get(SEARCH, q="zebra", limit=2)
    cursor = first["cursor"]
    more = provider.get(SEARCH, q="zebra", limit=9, cursor=cursor)["posts"]
    assert len(more) == 9
    assert provider.get(SEARCH, q="zebra", limit=2, cursor="") == first
    assert provider.get(SEARCH, q="zebra", limit=2, since="", until="") == first
    for other in (
        {"q": "zebra", "sort": "top"},
        {"q": "zebra", "lang": "en"},
        {"q": "zebra", "author": did("ann")},
        {"q": "same"},
    ):
        refuse(provider, SEARCH, cursor=cursor, **other)
    feed = {"feed": own_feed("latest"), "limit": 1}
    cursor = provider.get(FEED, **feed)["cursor"]
    refuse(provider, FEED, feed=own_feed("popular"), cursor=cursor)
    refuse(provider, SKELETON, feed=own_feed("latest"), cursor=cursor)
    cursor = provider.get(AUTHOR, actor=did("tess"), limit=1)["cursor"]
    assert provider.get(AUTHOR, actor="tess.test", limit=2, cursor=cursor)["feed"]
    refuse(provider, AUTHOR, actor=did("ann"), cursor=cursor)
    refuse(
        provider, AUTHOR, actor=did("tess"), cursor=cursor, filter="posts_no_replies"
    )


def refuse(provider: Provider, nsid: str, **params: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(nsid, **params)
    assert (refused.value.status, refused.value.name) == (400, "InvalidCursor")


def test_author_threads_filter_needs_own_posts_up_to_the_root(
    provider: Provider,
) -> None:
    def texts(kind: str, limit: int) -> list[tuple[str, bool]]:
        params = {"actor": did("ann"), "filter": kind, "limit": limit}
        found = read_all(provider, AUTHOR, "feed", **params)
        return [key for key in keys(found) if "zebra" not in key[0]]

    for limit in (1, 2, 30):
        assert texts("posts_and_author_threads", limit) == [
            ("in_bens_thread", True),
            ("own_deeper", False),
            ("own", False),
            ("root", False),
        ]
    assert texts("posts_no_replies", 3) == [("in_bens_thread", True), ("root", False)]
    everything = [text for text, _ in texts("posts_with_replies", 30)]
    for text in ("own_below_ben", "own_far_below_ben", "wrong_root", "in_bens_thread"):
        assert text in everything


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("posts_with_media", [("photo", False)]),
        ("posts_with_video", [("film", False)]),
        (
            "posts_no_replies",
            [
                ("card", True),
                *((text, False) for text in ("card", "film", "photo", "plain")),
            ],
        ),
    ],
)
def test_author_feed_filters_media(
    provider: Provider, kind: str, expected: list[Any]
) -> None:
    found = read_all(provider, AUTHOR, "feed", actor=did("vic"), filter=kind, limit=1)
    assert keys(found) == expected


@pytest.mark.parametrize("limit", [1, 2, 30])
def test_pinned_post_comes_first_and_once(provider: Provider, limit: int) -> None:
    params = {"actor": did("pia"), "limit": limit}
    pinned = read_all(provider, AUTHOR, "feed", includePins="true", **params)
    plain = read_all(provider, AUTHOR, "feed", **params)
    assert [text for text, _ in keys(pinned)] == [
        *("pinned", "pia 3", "pia 2", "pia 1", "pia 0")
    ]
    assert pinned[0]["reason"] == {"$type": "app.bsky.feed.defs#reasonPin"}
    assert all("reason" not in item for item in pinned[1:])
    assert [text for text, _ in keys(plain)] == [
        *("pinned", "pia 3", "pia 2", "pia 1", "pia 0", "pinned")
    ]
    # A post of another account cannot be pinned.
    params["actor"] = did("ben")
    others = read_all(provider, AUTHOR, "feed", includePins="true", **params)
    assert others == read_all(provider, AUTHOR, "feed", **params)


def test_large_quoted_post_is_shown_a_few_times(provider: Provider) -> None:
    body, _ = provider.ask(AUTHOR, actor=did("quo"), limit=50)
    feed = json.loads(body)["feed"]
    assert len(feed) == 40
    assert len(body) < 6_000_000
    shown = [item["post"]["embed"]["record"]["$type"] for item in feed]
    assert shown[0].endswith("#viewRecord")
    assert shown[-1].endswith("#viewNotFound")
