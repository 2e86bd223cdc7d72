from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from graph_world import DEFS, GRAPH, fill
from small_world import did

from appview.hydration import records


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    statuses = {"gone": "deactivated"}
    with serve_world(url, fill, statuses, unnamed={"dee"}) as served:
        yield served
    databases.drop(url)


def members(answer: dict[str, Any]) -> list[str]:
    return [item["subject"]["did"] for item in answer["items"]]


def dids(*names: str) -> list[str]:
    return [did(name) for name in names]


def test_list_shows_members_once_without_hidden_and_blocked_ones(
    provider: Provider,
) -> None:
    answer = provider.get(f"{GRAPH}getList", list=provider.uris["curated"])
    assert members(answer) == dids("bare", "dee", "cal", "ben", "ann")
    assert "cursor" not in answer
    view = answer["list"]
    assert view["uri"] == provider.uris["curated"]
    assert (view["purpose"], view["listItemCount"]) == (f"{DEFS}curatelist", 8)
    assert view["creator"]["did"] == did("lou")
    assert answer["items"][0]["uri"] == provider.uris["bare in curated"]
    assert answer["items"][-1]["uri"] == provider.uris["ann in curated"]


def test_list_for_moderation_shows_accounts_in_blocks_with_its_owner(
    provider: Provider,
) -> None:
    answer = provider.get(f"{GRAPH}getList", list=provider.uris["moderated"])
    expected = dids("hater", "foe", "bare", "dee", "cal", "ben", "ann")
    assert members(answer) == expected
    own = provider.get(f"{GRAPH}getList", list=provider.uris["curated"], viewer="lou")
    assert members(own) == expected
    blocks = {
        item["subject"]["did"]: item["subject"]["viewer"] for item in own["items"]
    }
    assert blocks[did("foe")]["blocking"] == provider.uris["foe block"]
    assert blocks[did("hater")]["blockedBy"] is True


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_list_pages_hold_every_member_once(provider: Provider, limit: int) -> None:
    items = provider.pages(
        f"{GRAPH}getList", "items", list=provider.uris["curated"], limit=limit
    )
    found = [item["subject"]["did"] for item in items]
    assert found == dids("bare", "dee", "cal", "ben", "ann")


def test_list_without_members_is_shown(provider: Provider) -> None:
    answer = provider.get(f"{GRAPH}getList", list=provider.uris["empty"], viewer="viv")
    assert answer["items"] == []
    assert answer["list"]["listItemCount"] == 0
    assert answer["list"]["viewer"] == {"muted": False}


@pytest.mark.parametrize("name", ["of_gone", "pack", "labeler"])
def test_hidden_list_and_other_records_are_not_found(
    provider: Provider, name: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(f"{GRAPH}getList", list=provider.uris[name])
    assert (refused.value.name, refused.value.message) == (
        "InvalidRequest",
        "List not found",
    )


@pytest.mark.parametrize("name", ["lou", "unheardof"])
def test_unknown_list_is_not_found(provider: Provider, name: str) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(
            f"{GRAPH}getList", list=f"at://{did(name)}/{GRAPH}list/3kkkkkkkkkkkk"
        )
    assert refused.value.message == "List not found"


def test_lists_of_an_account_newest_first(provider: Provider) -> None:
    def found(**params: Any) -> list[str]:
        lists = provider.pages(f"{GRAPH}getLists", "lists", actor="lou.test", **params)
        return [view["uri"] for view in lists]

    uris = provider.uris
    expected = [uris[name] for name in ("future", "moderated", "curated", "old")]
    assert found() == found(limit=1) == expected
    assert found(purposes=["modlist"]) == [uris["future"], uris["moderated"]]
    assert found(purposes=[f"{DEFS}curatelist"], limit=1) == [
        uris["curated"],
        uris["old"],
    ]
    assert found(purposes=["referencelist"]) == []


@pytest.mark.parametrize("nsid", ["getLists", "getActorStarterPacks"])
def test_lists_of_unknown_and_hidden_accounts(provider: Provider, nsid: str) -> None:
    name = "lists" if nsid == "getLists" else "starterPacks"
    for actor in (did("unheardof"), did("gone")):
        assert provider.get(GRAPH + nsid, actor=actor) == {name: []}
    with pytest.raises(RefusedError) as refused:
        provider.get(GRAPH + nsid, actor="unheardof.test")
    assert (refused.value.status, refused.value.message) == (400, "Profile not found")


def test_blocked_lists_are_shown_to_their_blocker(provider: Provider) -> None:
    lists = provider.pages(f"{GRAPH}getListBlocks", "lists", viewer="viv", limit=1)
    uris = provider.uris
    # The newest list first, not the newest block.
    expected = [uris["future"], uris["moderated"], uris["curated"]]
    assert [view["uri"] for view in lists] == expected
    assert lists[2]["viewer"]["blocked"] == uris["viv blocks curated"]
    assert provider.get(f"{GRAPH}getListBlocks", viewer="nobody") == {"lists": []}


def test_blocked_accounts_are_shown_to_their_blocker(provider: Provider) -> None:
    blocks = provider.pages(f"{GRAPH}getBlocks", "blocks", viewer="viv", limit=1)
    assert [view["did"] for view in blocks] == dids("bare", "ben")
    assert blocks[0]["viewer"]["blocking"] == provider.uris["viv blocks bare"]
    assert blocks[0]["handle"] == "bare.test"
    assert provider.get(f"{GRAPH}getBlocks", viewer="nobody") == {"blocks": []}


@pytest.mark.parametrize(
    ("nsid", "params"),
    [
        ("getBlocks", {}),
        ("getListBlocks", {}),
        ("getKnownFollowers", {"actor": did("star")}),
        ("getListsWithMembership", {"actor": did("ann")}),
        ("getStarterPacksWithMembership", {"actor": did("ann")}),
    ],
)
def test_methods_of_a_viewer_require_one(
    provider: Provider, nsid: str, params: dict[str, str]
) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(GRAPH + nsid, **params)
    assert (refused.value.status, refused.value.name) == (401, "AuthMissing")


def test_own_lists_say_where_an_account_is_a_member(provider: Provider) -> None:
    def found(actor: str, **params: Any) -> list[tuple[str, str | None]]:
        entries = provider.pages(
            f"{GRAPH}getListsWithMembership",
            "listsWithMembership",
            actor=actor,
            **params,
        )
        return [(e["list"]["uri"], e.get("listItem", {}).get("uri")) for e in entries]

    uris = provider.uris
    assert found(did("ann"), viewer="lou") == [
        (uris["future"], None),
        (uris["moderated"], uris["ann in moderated"]),
        (uris["curated"], uris["ann in curated"]),
        (uris["old"], None),
    ]
    assert found("ann.test", viewer="viv", limit=1, purposes=["curatelist"]) == [
        (uris["viv's"], uris["ann in viv's"]),
        (uris["empty"], None),
    ]
    for hidden in ("gone", "unheardof"):
        assert {item for _, item in found(did(hidden), viewer="lou")} == {None}
    assert found(did("ann"), viewer="nobody") == []
    with pytest.raises(RefusedError) as refused:
        found("unheardof.test", viewer="lou")
    assert refused.value.message == "Profile not found"


def test_members_of_a_long_list_are_counted_as_items(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_COUNTED_ITEMS", 8)
    answer = provider.get(f"{GRAPH}getList", list=provider.uris["curated"])
    assert answer["list"]["listItemCount"] == 9
    answer = provider.get(f"{GRAPH}getList", list=provider.uris["moderated"])
    assert answer["list"]["listItemCount"] == 8
