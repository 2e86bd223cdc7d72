"""Export and deletion of everything private, and its life beside the index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import World, did

EXPORT = "bigworld.account.exportPrivateData"
DELETE = "bigworld.account.deletePrivateData"
CID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"


def fill(world: World) -> dict[str, str]:
    uris = {"post": world.post("mia", "quokka of mia")}
    for name in ("mia", "vera"):
        world.write(name, "app.bsky.actor.profile", {"displayName": name}, "self")
    return uris


@pytest.fixture
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={}) as provider:
        yield provider
    databases.drop(url)


def put_everything(provider: Provider, viewer: str = "vera") -> None:
    uri = provider.uris["post"]
    lists = f"at://{did('mia')}/app.bsky.graph.list/3kabcdefghi2a"
    pref = {"$type": "app.bsky.actor.defs#adultContentPref", "enabled": True}
    graph, own = "app.bsky.graph.", "app.bsky.notification."
    for nsid, body in {
        f"{graph}muteActor": {"actor": did("mia"), "onlyReposts": True},
        f"{graph}muteActorList": {"list": lists},
        f"{graph}muteThread": {"root": uri},
        "app.bsky.bookmark.createBookmark": {"uri": uri, "cid": CID},
        "app.bsky.draft.createDraft": {"draft": {"posts": [{"text": "plan"}]}},
        "app.bsky.actor.putPreferences": {"preferences": [pref]},
        f"{own}putPreferencesV2": {"verified": {"list": False, "push": False}},
        f"{own}putPreferences": {"priority": True},
        f"{own}updateSeen": {"seenAt": "2026-11-01T00:00:00Z"},
        f"{own}putActivitySubscription": {
            "subject": did("mia"),
            "activitySubscription": {"post": True, "reply": False},
        },
        "bigworld.search.putSavedSearch": {"query": "quokka", "name": "q"},
    }.items():
        provider.post(nsid, body, viewer=viewer)


def exported(provider: Provider, viewer: str = "vera") -> dict[str, Any]:
    items = provider.pages(EXPORT, "items", viewer=viewer, limit=1)
    return {item["kind"]: item["value"] for item in items}


def test_everything_is_exported_and_deleted(provider: Provider) -> None:
    put_everything(provider)
    put_everything(provider, "will")
    found = exported(provider)
    assert sorted(found) == [
        "activitySubscription",
        "bookmark",
        "draft",
        "listMute",
        "mute",
        "notificationPreferences",
        "preferences",
        "priority",
        "seen",
        "threadMute",
    ]
    assert found["mute"] == {
        "subject": did("mia"),
        "onlyReposts": True,
        "onlyQuoteposts": False,
    }
    assert found["draft"]["draft"] == {"posts": [{"text": "plan"}]}
    [search] = provider.get(EXPORT, viewer="vera")["savedSearches"]
    assert (search["query"], search["name"]) == ("quokka", "q")
    for deleted in (11, 0):
        answer = json.loads(provider.post(DELETE, None, viewer="vera"))
        assert answer == {"deleted": deleted}
    assert provider.get(EXPORT, viewer="vera") == {"items": [], "savedSearches": []}
    assert len(exported(provider, "will")) == 10


@pytest.mark.parametrize("viewer", [None, "vera#atproto_labeler"])
def test_export_and_deletion_need_an_account(
    provider: Provider, viewer: str | None
) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(EXPORT, viewer=viewer)
    assert refused.value.status == 401
    with pytest.raises(RefusedError) as refused:
        provider.post(DELETE, None, viewer=viewer)
    assert refused.value.status == 401


def test_private_state_survives_a_wiped_index(provider: Provider) -> None:
    put_everything(provider)
    before = exported(provider)
    with psycopg.connect(provider.database) as conn:
        # The numbers of accounts begin anew.
        conn.execute("TRUNCATE record, post, profile, link, actor_stats")
        conn.execute("UPDATE actor SET did = did || 'x', handle = NULL")
        conn.execute("INSERT INTO actor (did) VALUES (%s), (%s)", _accounts())
    assert exported(provider) == before
    items = provider.get("app.bsky.bookmark.getBookmarks", viewer="vera")["bookmarks"]
    assert [item["subject"]["uri"] for item in items] == [provider.uris["post"]]
    assert provider.get("app.bsky.actor.getPreferences", viewer="vera")["preferences"]


def _accounts() -> tuple[str, str]:
    return did("mia"), did("vera")
