"""Threads with cycles: each post once, upwards and downwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, serve_world
from paging_world import fill, uri_of

from appview.app_bsky.feed import get_post_thread, search_posts
from appview.session import RequestContext
from network.xrpc.server import XrpcError

THREAD = "app.bsky.feed.getPostThread"


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={}) as provider:
        yield provider
    databases.drop(url)


def posts_of(view: dict[str, Any]) -> Counter[str]:
    """Return the number of times that each post is in a thread."""
    found = Counter([view["post"]["uri"]])
    for reply in view.get("replies", ()):
        found += posts_of(reply)
    return found + (posts_of(view["parent"]) if "parent" in view else Counter())


@pytest.mark.parametrize(
    ("name", "rkey", "members", "upwards"),
    [
        ("ann", "3m2222222222a", ["ann"], 1),
        # Each names another root, so there are no parents.
        ("cyd", "3m2222222222b", ["ann", "ben", "cyd", "dot", "eli"], 1),
        ("ann", "3m2222222222d", ["ann", "ben", "dot"], 3),
        ("dot", "3m2222222222d", ["ann", "ben", "dot"], 3),
    ],
)
@pytest.mark.parametrize("height", [0, 1, 2, 1000])
def test_thread_of_a_cycle_holds_each_post_once(
    provider: Provider,
    name: str,
    rkey: str,
    members: list[str],
    upwards: int,
    height: int,
) -> None:
    uri = uri_of(name, rkey)
    for depth in (0, 1, 6, 1000):
        answer = provider.get(THREAD, uri=uri, depth=depth, parentHeight=height)
        found = posts_of(answer["thread"])
        assert set(found.values()) == {1}
        assert found.keys() <= {uri_of(each, rkey) for each in members}
    if height == 1000:
        assert len(found) == upwards


def test_replies_are_left_out_at_the_depth_limit(provider: Provider) -> None:
    uri = provider.uris["root"]
    assert "replies" not in provider.get(THREAD, uri=uri, depth=0)["thread"]
    thread = provider.get(THREAD, uri=uri, depth=1)["thread"]
    assert all("replies" not in reply for reply in thread["replies"])
    deep = provider.get(THREAD, uri=uri, depth=6)["thread"]
    texts = {r["post"]["record"]["text"]: r for r in deep["replies"]}
    leaf = texts["own"]["replies"][0]
    assert (leaf["post"]["record"]["text"], leaf["replies"]) == ("own_deeper", [])


def test_reply_with_another_root_is_counted_but_not_shown(provider: Provider) -> None:
    wrong, root = provider.uris["wrong_root"], provider.uris["bens_root"]
    thread = provider.get(THREAD, uri=root)["thread"]
    uris = {reply["post"]["uri"] for reply in thread["replies"]}
    assert uris == {provider.uris["in_bens_thread"]}
    assert thread["post"]["replyCount"] == len({*uris, wrong})
    # Its parents are of another thread.
    assert "parent" not in provider.get(THREAD, uri=wrong)["thread"]


def test_work_ends_when_the_client_disconnects(provider: Provider) -> None:
    asked = iter([False, False, False])
    context = RequestContext(
        provider.app, THREAD, is_client_gone=lambda: next(asked, True)
    )
    params = {"uri": provider.uris["root"], "depth": 6, "parentHeight": 80}
    with pytest.raises(XrpcError) as refused:
        get_post_thread.METHOD.run(context, params)
    assert refused.value.status == 499
    gone = RequestContext(provider.app, THREAD, is_client_gone=lambda: True)
    with pytest.raises(XrpcError):
        search_posts.METHOD.run(gone, {"q": "zebra", "limit": 3})
