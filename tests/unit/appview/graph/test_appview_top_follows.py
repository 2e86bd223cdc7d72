from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import World, did

from appview.skeletons import top_follows

FOLLOWS = "app.bsky.graph.getFollows"
FOLLOWERS = "app.bsky.graph.getFollowers"


def _fill(world: World) -> dict[str, str]:
    for name in ("ann", "ben", "cal", "dee"):
        world.post(name, "here")
    for name, other in (
        ("ann", "ben"),
        ("ann", "cal"),
        ("ann", "dee"),
        ("ben", "cal"),
        ("dee", "cal"),
        ("cal", "dee"),
        ("ben", "ann"),
        ("cal", "ann"),
        ("dee", "ann"),
    ):
        world.follow(name, other)
    return {}


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, _fill, {}) as served:
        yield served
    databases.drop(url)


@pytest.mark.parametrize("limit", [1, 2, 50])
@pytest.mark.parametrize(
    ("nsid", "name", "by_time"),
    [
        (FOLLOWS, "follows", ["dee", "cal", "ben"]),
        (FOLLOWERS, "followers", ["dee", "cal", "ben"]),
    ],
)
def test_order_of_follows(
    provider: Provider, nsid: str, name: str, by_time: list[str], limit: int
) -> None:
    def found(**params: Any) -> list[str]:
        views = provider.pages(nsid, name, actor="ann.test", limit=limit, **params)
        return [view["handle"].removesuffix(".test") for view in views]

    assert found() == found(sort="latest") == found(sort="unheardof") == by_time
    # Cal has three followers, Dee two, Ben one.
    assert found(sort="top") == ["cal", "dee", "ben"]


def test_ranking_reads_the_latest_follows(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_follows, "MAX_RANKED", 2)
    for nsid, name in ((FOLLOWS, "follows"), (FOLLOWERS, "followers")):
        views = provider.get(nsid, actor=did("ann"), sort="top")[name]
        assert [view["handle"] for view in views] == ["cal.test", "dee.test"]


def test_cursor_of_one_order_is_refused_by_the_other(provider: Provider) -> None:
    page = provider.get(FOLLOWS, actor=did("ann"), sort="top", limit=1)
    with pytest.raises(RefusedError) as refused:
        provider.get(FOLLOWS, actor=did("ann"), cursor=page["cursor"], limit=1)
    assert refused.value.name == "InvalidCursor"
