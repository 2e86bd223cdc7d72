from __future__ import annotations

from typing import Any

import pytest
from appview_world import Provider, RefusedError, did

SEARCH = "app.bsky.feed.searchPosts"
THREAD = "app.bsky.feed.getPostThread"


def uris_of(answer: dict[str, Any], key: str = "posts") -> list[str]:
    return [post["uri"] for post in answer[key]]


def test_search_hides_accounts_that_are_not_active(provider: Provider) -> None:
    found = uris_of(provider.get(SEARCH, q="quokka"))
    assert provider.uris["hello"] in found
    assert provider.uris["eves"] in found
    assert provider.uris["dans"] not in found


def test_search_hides_blocked_accounts_from_both_sides(provider: Provider) -> None:
    as_alice = uris_of(provider.get(SEARCH, q="quokka", viewer="alice"))
    as_eve = uris_of(provider.get(SEARCH, q="quokka", viewer="eve"))
    assert as_alice == [provider.uris["hello"]]
    assert as_eve == [provider.uris["eves"]]


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
def test_a_query_that_cannot_be_understood_says_so(provider: Provider, q: str) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(SEARCH, q=q)
    assert (refused.value.status, refused.value.name) == (400, "BadQueryString")


def test_a_forged_cursor_is_refused(provider: Provider) -> None:
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


def test_embeds(provider: Provider) -> None:
    names = [
        "picture",
        "external",
        "quote",
        "quote_hidden",
        "quote_media",
        "quote_list",
        "quote_feed",
    ]
    wanted = [provider.uris[name] for name in names]
    answer = provider.get("app.bsky.feed.getPosts", uris=wanted)
    views = dict(zip(names, (p["embed"] for p in answer["posts"]), strict=True))
    image = views["picture"]["images"][0]
    assert image["alt"] == "a wombat"
    assert image["thumb"].startswith(
        "https://pds.example.com/xrpc/com.atproto.sync.getBlob?did=did:plc:bob"
    )
    assert views["external"]["external"]["uri"] == "https://example.com/x"
    quoted = views["quote"]["record"]
    assert quoted["uri"] == provider.uris["picture"]
    assert quoted["embeds"][0]["$type"] == "app.bsky.embed.images#view"
    assert views["quote_hidden"]["record"]["notFound"] is True
    assert views["quote_media"]["record"]["record"]["uri"] == provider.uris["hello"]
    assert views["quote_media"]["media"]["images"]
    assert views["quote_list"]["record"]["name"] == "friends"
    assert views["quote_list"]["record"]["listItemCount"] == 1
    assert views["quote_feed"]["record"]["displayName"] == "Latest"
    labels = answer["posts"][1]["labels"]
    assert [(label["val"], label["src"]) for label in labels] == [
        ("spoiler", did("bob"))
    ]


def test_a_thread_has_parents_and_replies(provider: Provider) -> None:
    thread = provider.get(THREAD, uri=provider.uris["reply"])["thread"]
    assert thread["parent"]["post"]["uri"] == provider.uris["hello"]
    assert "replies" not in thread["parent"]
    below = thread["replies"][0]
    assert below["post"]["uri"] == provider.uris["reply2"]
    assert below["replies"][0]["post"]["uri"] == provider.uris["reply3"]


def test_a_thread_is_as_deep_and_as_high_as_asked(provider: Provider) -> None:
    shallow = provider.get(THREAD, uri=provider.uris["hello"], depth=1)["thread"]
    assert [r["post"]["uri"] for r in shallow["replies"]] == [provider.uris["reply"]]
    assert "replies" not in shallow["replies"][0]
    low = provider.get(THREAD, uri=provider.uris["reply3"], parentHeight=1)["thread"]
    assert low["parent"]["post"]["uri"] == provider.uris["reply2"]
    assert "parent" not in low["parent"]


def test_a_thread_by_handle_and_one_that_is_not_there(provider: Provider) -> None:
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
