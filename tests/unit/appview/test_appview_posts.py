from __future__ import annotations

from typing import Any

import pytest
from appview_world import Provider, RefusedError
from small_world import did

SEARCH = "app.bsky.feed.searchPosts"
THREAD = "app.bsky.feed.getPostThread"


def uris_of(answer: dict[str, Any], key: str = "posts") -> list[str]:
    return [post["uri"] for post in answer[key]]


def test_search_filters_come_as_parameters_and_operators(provider: Provider) -> None:
    by_parameter = provider.get(SEARCH, q="*", author="bob.test", limit=100)
    by_operator = provider.get(SEARCH, q="from:bob.test", limit=100)
    assert uris_of(by_parameter) == uris_of(by_operator)
    assert len(uris_of(by_operator)) == 16
    assert uris_of(provider.get(SEARCH, q="*", domain="example.com")) == [
        provider.uris["external"]
    ]


def test_search_pages_neither_skip_nor_repeat(provider: Provider) -> None:
    posts = provider.pages(SEARCH, "posts", q="number", limit=5)
    texts = [post["record"]["text"] for post in posts]
    assert texts == [f"number {i} of many" for i in reversed(range(12))]


@pytest.mark.parametrize("q", ["since:never", "x" * 2000, "-", " "])
def test_malformed_query_is_explained(provider: Provider, q: str) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(SEARCH, q=q)
    assert (refused.value.status, refused.value.name) == (400, "BadQueryString")


def test_forged_cursor_is_refused(provider: Provider) -> None:
    answer = provider.get(SEARCH, q="number", limit=2)
    forged = answer["cursor"][:-2] + "AA"
    for cursor in (forged, "x", "a" * 4000):
        with pytest.raises(RefusedError) as refused:
            provider.get(SEARCH, q="number", limit=2, cursor=cursor)
        assert refused.value.status == 400


def test_posts_show_counts_author_and_the_viewers_own_like(provider: Provider) -> None:
    uri = provider.uris["hello"]
    post = provider.get("app.bsky.feed.getPosts", uris=[uri], viewer="bob")["posts"][0]
    assert post["likeCount"] == 3
    assert post["repostCount"] == 2
    assert post["replyCount"] == 2
    assert post["quoteCount"] == 1
    assert post["author"]["handle"] == "alice.test"
    assert post["author"]["viewer"]["following"].startswith(f"at://{did('bob')}/")
    assert post["author"]["viewer"]["followedBy"].startswith(f"at://{did('alice')}/")
    assert post["viewer"]["like"].startswith(f"at://{did('bob')}/app.bsky.feed.like/")
    assert post["viewer"]["repost"] == provider.uris["repost"]
    assert post["cid"] == provider.world.reference(uri)["cid"]


def test_post_view_has_the_labels_of_its_author(provider: Provider) -> None:
    uris = [provider.uris["external"]]
    [post] = provider.get("app.bsky.feed.getPosts", uris=uris)["posts"]
    labels = [(label["val"], label["src"]) for label in post["labels"]]
    assert labels == [("spoiler", did("bob"))]


def test_quote_of_a_hidden_post_is_not_found(provider: Provider) -> None:
    uris = [provider.uris["quote_hidden"]]
    [post] = provider.get("app.bsky.feed.getPosts", uris=uris)["posts"]
    assert post["embed"]["record"]["notFound"] is True


def test_thread_has_parents_and_replies(provider: Provider) -> None:
    thread = provider.get(THREAD, uri=provider.uris["reply"])["thread"]
    assert thread["parent"]["post"]["uri"] == provider.uris["hello"]
    assert "replies" not in thread["parent"]
    below = thread["replies"][0]
    assert below["post"]["uri"] == provider.uris["reply2"]
    assert below["replies"][0]["post"]["uri"] == provider.uris["reply3"]


def test_thread_obeys_depth_and_parent_height(provider: Provider) -> None:
    shallow = provider.get(THREAD, uri=provider.uris["hello"], depth=1)["thread"]
    assert [r["post"]["uri"] for r in shallow["replies"]] == [provider.uris["reply"]]
    assert "replies" not in shallow["replies"][0]
    low = provider.get(THREAD, uri=provider.uris["reply3"], parentHeight=1)["thread"]
    assert low["parent"]["post"]["uri"] == provider.uris["reply2"]
    assert "parent" not in low["parent"]


def test_thread_by_handle_and_of_a_missing_post(provider: Provider) -> None:
    by_handle = provider.uris["hello"].replace(did("alice"), "alice.test")
    assert (
        provider.get(THREAD, uri=by_handle)["thread"]["post"]["uri"]
        == (provider.uris["hello"])
    )
    for uri in (
        provider.uris["dans"],
        provider.uris["hello"][:-3] + "222",
        provider.uris["list"],
    ):
        with pytest.raises(RefusedError) as refused:
            provider.get(THREAD, uri=uri)
        assert refused.value.name == "NotFound"


def test_likes_and_reposts_name_active_accounts(provider: Provider) -> None:
    uri = provider.uris["hello"]
    likes = provider.pages("app.bsky.feed.getLikes", "likes", uri=uri, limit=1)
    assert [like["actor"]["handle"] for like in likes] == ["carol.test", "bob.test"]
    reposted = provider.get("app.bsky.feed.getRepostedBy", uri=uri)["repostedBy"]
    assert [actor["handle"] for actor in reposted] == ["carol.test", "bob.test"]
