from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import World, did

SEARCH = "app.bsky.feed.searchPosts"
WRITERS = ("ann", "ben", "cleo", "dora", "eli")


def fill(world: World) -> dict[str, str]:
    """Ann follows Ben, likes a post of Cleo, and lists Dora; Eli is hidden."""
    uris = {name: world.post(name, f"{name} has a wombat") for name in WRITERS}
    world.follow("ann", "ben")
    world.follow("ann", "eli")
    world.like("ann", uris["cleo"])
    world.write("ann", "app.bsky.feed.like", {"subject": {"uri": 7}}, "odd")
    for owner, purpose, member in (
        ("ann", "curatelist", "dora"),
        ("ann", "modlist", "cleo"),
        ("ben", "curatelist", "cleo"),
        ("eli", "curatelist", "cleo"),
    ):
        key = f"{owner}/{purpose}"
        fields = {"name": key, "purpose": f"app.bsky.graph.defs#{purpose}"}
        uris[key] = world.write(owner, "app.bsky.graph.list", fields)
        item = {"subject": did(member), "list": uris[key]}
        world.write(owner, "app.bsky.graph.listitem", item)
    # An item of another account's list is none.
    item = {"subject": did("dora"), "list": uris["ben/curatelist"]}
    world.write("dora", "app.bsky.graph.listitem", item)
    world.write("ben", "app.bsky.graph.block", {"subject": did("dora")})
    return uris


@pytest.fixture(scope="module")
def world(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, {"eli": "deactivated"}) as provider:
        yield provider
    databases.drop(url)


def found(world: Provider, q: str, viewer: str = "ann") -> set[str]:
    posts = world.get(SEARCH, q=f"wombat {q}", viewer=viewer)["posts"]
    return {post["author"]["handle"].removesuffix(".test") for post in posts}


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("in:following", {"ben"}),
        ("in:likes", {"cleo"}),
        ("in:list", {"dora"}),
        ("in: FOLLOWING", {"ben"}),
        ("-in:following", {"ann", "cleo", "dora"}),
        ("-in:likes -in:list", {"ann", "ben"}),
        ("in:following in:likes", set()),
        ("in:likes (cleo OR dora)", {"cleo"}),
    ],
)
def test_places_are_those_of_the_viewer(
    world: Provider, q: str, expected: set[str]
) -> None:
    assert found(world, q) == expected


def test_places_of_an_unknown_account_are_empty(world: Provider) -> None:
    for q in ("in:following", "in:likes", "in:list"):
        assert found(world, q, viewer="nobody") == set()


def test_any_shown_list_can_be_named(world: Provider) -> None:
    listed = world.uris["ben/curatelist"]
    assert found(world, f"in:{listed}") == {"cleo"}
    by_handle = listed.replace(did("ben"), "ben.test")
    assert found(world, f"in:{by_handle}") == {"cleo"}
    assert found(world, f"in:{world.uris['ann/modlist']}") == {"cleo"}
    posts = world.get(SEARCH, q=f"wombat in:{listed}")["posts"]
    assert [post["uri"] for post in posts] == [world.uris["cleo"]]


def test_list_of_a_hidden_or_blocking_account_is_empty(world: Provider) -> None:
    hidden, blocking = world.uris["eli/curatelist"], world.uris["ben/curatelist"]
    assert found(world, f"in:{hidden}") == set()
    assert found(world, f"in:{blocking}", viewer="dora") == set()
    assert found(world, f"-in:{hidden}") == {"ann", "ben", "cleo", "dora"}
    assert found(world, f"in:{hidden}x") == set()


@pytest.mark.parametrize(
    "q",
    [
        "in:at://x",
        f"in:at://{did('ann')}/app.bsky.feed.post/3k",
        " ".join(f"in:at://{did('ann')}/app.bsky.graph.list/{i}" for i in range(5)),
    ],
)
def test_odd_place_is_explained(world: Provider, q: str) -> None:
    with pytest.raises(RefusedError, match="in:") as refused:
        world.get(SEARCH, q=q)
    assert refused.value.name == "BadQueryString"
