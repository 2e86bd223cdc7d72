from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from graph_world import DEFS, GRAPH, fill
from small_world import did


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, {"gone": "deactivated", "lost": "deleted"}) as served:
        yield served
    databases.drop(url)


def relations(provider: Provider, actor: str, *others: str) -> list[dict[str, Any]]:
    answer = provider.get(f"{GRAPH}getRelationships", actor=actor, others=others)
    found: list[dict[str, Any]] = answer["relationships"]
    return found


def test_relationships_name_follows_and_blocks(provider: Provider) -> None:
    uris = provider.uris
    star = relations(provider, "star.test", did("ann"), did("foe"), did("fan"))
    kind = {"$type": f"{DEFS}relationship"}
    assert star[0] == kind | {
        "did": did("ann"),
        "followedBy": uris["ann follows star"],
    }
    # A block hides no follow here.
    assert star[1].pop("blocking").startswith(f"at://{did('star')}/{GRAPH}block/")
    assert star[1] == kind | {
        "did": did("foe"),
        "followedBy": uris["foe follows star"],
    }
    assert star[2]["followedBy"] == uris["fan follows star"]
    [lou] = relations(provider, did("lou"), did("hater"))
    assert lou == kind | {"did": did("hater"), "blockedByList": uris["hates"]}
    [hater] = relations(provider, did("hater"), did("lou"))
    assert hater == kind | {"did": did("lou"), "blockingByList": uris["hates"]}
    # A record key that is no TID.
    [bare] = relations(provider, did("bare"), did("viv"))
    assert bare["blockedBy"] == uris["viv blocks bare"]
    assert bare["blockedBy"].endswith("/no-tid")


def test_relationship_to_oneself_and_to_unknown_accounts(provider: Provider) -> None:
    assert relations(provider, "fan.test", did("fan"), did("unheardof")) == [
        {"$type": f"{DEFS}relationship", "did": did("fan")},
        {"$type": f"{DEFS}relationship", "did": did("unheardof")},
    ]
    # A deleted account is forgotten before its follows are.
    [lost] = relations(provider, did("star"), did("lost"))
    assert lost == {"$type": f"{DEFS}relationship", "did": did("lost")}
    [gone] = relations(provider, did("star"), did("gone"))
    assert gone["followedBy"] == provider.uris["gone follows star"]
    [found] = relations(provider, did("unheardof"), did("ann"))
    assert found == {"$type": f"{DEFS}relationship", "did": did("ann")}


def test_handles_of_others_are_not_resolved(provider: Provider) -> None:
    missing = {"$type": f"{DEFS}notFoundActor", "notFound": True}
    expected = [missing | {"actor": "ann.test"}]
    assert relations(provider, "star.test", "ann.test") == expected


def test_relationships_of_an_unknown_handle(provider: Provider) -> None:
    answer = provider.get(
        f"{GRAPH}getRelationships", actor="unheardof.test", others=[did("ann")]
    )
    assert "actor" not in answer
    assert answer["relationships"][0]["notFound"] is True


def test_relationships_to_nobody(provider: Provider) -> None:
    answer = provider.get(f"{GRAPH}getRelationships", actor="star.test")
    assert answer == {"actor": did("star"), "relationships": []}


def test_number_of_others_is_limited(provider: Provider) -> None:
    with pytest.raises(RefusedError) as refused:
        relations(provider, "star.test", *[did("ann")] * 31)
    assert refused.value.status == 400
