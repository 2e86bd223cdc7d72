"""Replies and quotes that gates forbid or hide notify nobody; blocks and removals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, serve_world
from small_world import World, did

NS = "app.bsky.notification."


def gate(world: World, name: str, uri: str, kind: str, **fields: Any) -> None:
    rkey = uri.rpartition("/")[2]
    world.write(name, f"app.bsky.feed.{kind}", {"post": uri, **fields}, rkey)


def fill(world: World) -> dict[str, str]:
    uris = {"closed": world.post("vera", "nobody may reply")}
    gate(world, "vera", uris["closed"], "threadgate", allow=[])
    uris["forbidden"] = world.reply("ada", uris["closed"])
    uris["hidden root"] = world.post("vera", "some are hidden")
    uris["hidden"] = world.reply("ada", uris["hidden root"])
    uris["seen"] = world.reply("ben", uris["hidden root"])
    uris["below"] = world.reply("ben", uris["hidden"], uris["hidden root"])
    gate(
        world,
        "vera",
        uris["hidden root"],
        "threadgate",
        hiddenReplies=[uris["hidden"]],
    )
    uris["unquotable"] = world.post("vera", "nobody may quote")
    rule = {"$type": "app.bsky.feed.postgate#disableRule"}
    gate(world, "vera", uris["unquotable"], "postgate", embeddingRules=[rule])
    uris["quote"] = world.quote("ada", uris["unquotable"])
    feature = {"$type": "app.bsky.richtext.facet#mention", "did": did("vera")}
    uris["naming quote"] = world.post(
        "ada",
        "v",
        embed=world.embed(uris["unquotable"]),
        facets=[{"index": {"byteStart": 0, "byteEnd": 1}, "features": [feature]}],
    )
    world.like("eve", uris["closed"])
    world.write("eve", "app.bsky.graph.block", {"subject": did("vera")})
    return uris


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={}) as provider:
        yield provider
    databases.drop(url)


def listed(provider: Provider, viewer: str) -> set[tuple[str, str]]:
    found = provider.pages(
        f"{NS}listNotifications", "notifications", viewer=viewer, limit=1
    )
    names = {uri: name for name, uri in provider.uris.items()}
    return {(n["reason"], names.get(n["uri"], n["uri"])) for n in found}


def test_gates_and_blocks_are_applied(provider: Provider) -> None:
    assert listed(provider, "vera") == {
        ("reply", "seen"),
        ("mention", "naming quote"),
    }
    count = provider.get(f"{NS}getUnreadCount", viewer="vera")
    assert count == {"count": 2}


def test_hidden_reply_ends_the_way_up_but_is_notified_itself(
    provider: Provider,
) -> None:
    assert listed(provider, "ada") == {("reply", "below")}
