from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from graph_world import GRAPH, fill
from small_world import did


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, {"gone": "deactivated"}) as served:
        yield served
    databases.drop(url)


def test_starter_pack_shows_the_most_followed_members_first(
    provider: Provider,
) -> None:
    uri = provider.uris["pack2"]
    pack = provider.get(f"{GRAPH}getStarterPack", starterPack=uri)["starterPack"]
    assert (pack["uri"], pack["record"]["name"]) == (uri, "second")
    assert pack["list"]["uri"] == provider.uris["curated"]
    found = [item["subject"]["handle"] for item in pack["listItemsSample"]]
    # cal has two followers, bare and ann one.
    assert found == ["cal.test", "ann.test", "bare.test", "dee.test", "ben.test"]
    assert (pack["joinedWeekCount"], pack["joinedAllTimeCount"]) == (0, 0)
    assert pack["feeds"] == []


def test_own_starter_pack_shows_accounts_in_blocks(provider: Provider) -> None:
    uri = provider.uris["pack2"]
    own = provider.get(f"{GRAPH}getStarterPack", starterPack=uri, viewer="lou")
    sample = own["starterPack"]["listItemsSample"]
    assert {did("foe"), did("hater")} < {item["subject"]["did"] for item in sample}


def test_starter_pack_by_handle(provider: Provider) -> None:
    uri = provider.uris["pack"]
    named = uri.replace(did("lou"), "lou.test")
    by_did = provider.get(f"{GRAPH}getStarterPack", starterPack=uri)
    assert provider.get(f"{GRAPH}getStarterPack", starterPack=named) == by_did


def test_starter_pack_without_its_list_is_shown(provider: Provider) -> None:
    uri = provider.uris["lost"]
    pack = provider.get(f"{GRAPH}getStarterPack", starterPack=uri)["starterPack"]
    assert "list" not in pack
    assert pack["listItemsSample"] == []


@pytest.mark.parametrize("name", ["curated", "unheardof"])
def test_other_records_are_no_starter_packs(provider: Provider, name: str) -> None:
    uri = provider.uris.get(name, f"at://{did(name)}/{GRAPH}starterpack/x")
    with pytest.raises(RefusedError) as refused:
        provider.get(f"{GRAPH}getStarterPack", starterPack=uri)
    assert (refused.value.status, refused.value.message) == (
        400,
        "Starter pack not found",
    )


def test_starter_packs_by_uri_and_by_account(provider: Provider) -> None:
    uris = provider.uris
    asked = [uris["pack2"], uris["curated"], uris["pack"], uris["pack2"]]
    packs = provider.get(f"{GRAPH}getStarterPacks", uris=asked)["starterPacks"]
    expected = [uris["pack2"], uris["pack"], uris["pack2"]]
    assert [pack["uri"] for pack in packs] == expected
    assert "list" not in packs[0]
    of_lou = provider.pages(
        f"{GRAPH}getActorStarterPacks", "starterPacks", actor=did("lou"), limit=1
    )
    assert [pack["uri"] for pack in of_lou] == [
        uris["lost"],
        uris["pack2"],
        uris["pack"],
    ]


def test_own_packs_say_where_an_account_is_a_member(provider: Provider) -> None:
    entries = provider.pages(
        f"{GRAPH}getStarterPacksWithMembership",
        "starterPacksWithMembership",
        actor="ann.test",
        viewer="lou",
        limit=2,
    )
    uris = provider.uris
    assert [
        (entry["starterPack"]["uri"], entry.get("listItem", {}).get("uri"))
        for entry in entries
    ] == [
        (uris["lost"], None),
        (uris["pack2"], uris["ann in curated"]),
        (uris["pack"], uris["ann in reference"]),
    ]
    assert entries[1]["listItem"]["subject"]["did"] == did("ann")


def test_labeler_services(provider: Provider) -> None:
    asked = [did("lou"), did("ann"), did("ben"), did("unheardof")]
    views = provider.get("app.bsky.labeler.getServices", dids=asked)["views"]
    defs = "app.bsky.labeler.defs#labelerView"
    assert [(v["$type"], v["creator"]["did"]) for v in views] == [
        (defs, did("lou")),
        (defs, did("ann")),
    ]
    assert "policies" not in views[0]
    answer = provider.get(
        "app.bsky.labeler.getServices", dids=asked, detailed="true", viewer="viv"
    )
    [view] = answer["views"]
    assert view["$type"] == f"{defs}Detailed"
    assert view["policies"] == {"labelValues": ["spam", "rude"]}
    assert view["subjectTypes"] == ["account", "record"]
    assert view["reasonTypes"] == ["com.atproto.moderation.defs#reasonSpam"]
    assert view["subjectCollections"] == ["app.bsky.feed.post"]
    assert (view["likeCount"], view["viewer"]) == (0, {})
