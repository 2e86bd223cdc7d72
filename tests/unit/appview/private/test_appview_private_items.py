"""Muted lists and threads, bookmarks, drafts and preferences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import World, did

from storage.private import private_items
from storage.private.private_items import Kind

GRAPH = "app.bsky.graph."
BOOKMARK = "app.bsky.bookmark."
DRAFT = "app.bsky.draft."
ACTOR = "app.bsky.actor."
CID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
UNKNOWN = f"at://{did('nobody')}/app.bsky.feed.post/3kabcdefghi2a"


def fill(world: World) -> dict[str, str]:
    uris = {"mias": world.post("mia", "quokka of mia")}
    uris["rons"] = world.post("ron", "quokka of ron")
    uris["reply"] = world.reply("mia", uris["rons"])
    for name, purpose in (("list", "modlist"), ("curated", "curatelist")):
        uris[name] = world.write(
            "will",
            "app.bsky.graph.list",
            {"name": name, "purpose": f"app.bsky.graph.defs#{purpose}"},
        )
        world.write(
            "will",
            "app.bsky.graph.listitem",
            {"list": uris[name], "subject": did("mia")},
        )
    uris["gone"] = world.write(
        "left",
        "app.bsky.graph.list",
        {"name": "gone", "purpose": "app.bsky.graph.defs#modlist"},
    )
    world.write(
        "left",
        "app.bsky.graph.listitem",
        {"list": uris["gone"], "subject": did("ron")},
    )
    uris["lefts"] = world.post("left", "quokka of left")
    for name in ("mia", "ron", "vera"):
        world.write(name, "app.bsky.actor.profile", {"displayName": name}, "self")
    world.follow("vera", "mia")
    world.follow("vera", "ron")
    return uris


@pytest.fixture(scope="module")
def served(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={"left": "deactivated"}) as provider:
        yield provider
    databases.drop(url)


@pytest.fixture
def provider(served: Provider) -> Iterator[Provider]:
    yield served
    with psycopg.connect(served.database) as conn:
        conn.execute("DELETE FROM private_item")


def profile(provider: Provider, name: str, viewer: str = "vera") -> Any:
    return provider.get(
        f"{ACTOR}getProfile", actor=did(name), viewer=viewer, headers={}
    )["viewer"]


def post(provider: Provider, name: str, viewer: str = "vera") -> Any:
    uri = provider.uris[name]
    [found] = provider.get("app.bsky.feed.getPosts", uris=uri, viewer=viewer)["posts"]
    return found["viewer"]


def mute_list(provider: Provider, name: str) -> None:
    body = {"list": provider.uris[name]}
    provider.post(f"{GRAPH}muteActorList", body, viewer="vera")


def test_list_mute_mutes_its_members(provider: Provider) -> None:
    mute_list(provider, "list")
    mute_list(provider, "list")
    viewer = profile(provider, "mia")
    assert viewer["muted"] is True
    assert viewer["mutedByList"]["uri"] == provider.uris["list"]
    assert viewer["mutedByList"]["viewer"]["muted"] is True
    assert profile(provider, "ron")["muted"] is False
    assert profile(provider, "mia", "will")["muted"] is False
    [found] = provider.get(f"{GRAPH}getListMutes", viewer="vera")["lists"]
    assert found["uri"] == provider.uris["list"]
    body = {"list": provider.uris["list"]}
    provider.post(f"{GRAPH}unmuteActorList", body, viewer="vera")
    provider.post(f"{GRAPH}unmuteActorList", body, viewer="vera")
    assert profile(provider, "mia")["muted"] is False
    assert provider.get(f"{GRAPH}getListMutes", viewer="vera") == {"lists": []}


def test_list_mute_needs_a_moderation_list(provider: Provider) -> None:
    mute_list(provider, "curated")
    viewer = profile(provider, "mia")
    assert viewer["muted"] is False
    assert "mutedByList" not in viewer
    [found] = provider.get(f"{GRAPH}getListMutes", viewer="vera")["lists"]
    assert found["uri"] == provider.uris["curated"]


def test_list_mute_covers_a_scoped_mute(provider: Provider) -> None:
    body = {"actor": did("mia"), "onlyReposts": True}
    provider.post(f"{GRAPH}muteActor", body, viewer="vera")
    mute_list(provider, "list")
    viewer = profile(provider, "mia")
    assert viewer["muted"] is True
    assert viewer["mutedOnlyReposts"] is False


def test_list_mute_hides_members_in_feeds(provider: Provider) -> None:
    def texts() -> set[str]:
        uri = "at://did:web:provider.example.com/app.bsky.feed.generator/following"
        items = provider.pages(
            "app.bsky.feed.getFeed", "feed", feed=uri, viewer="vera", limit=1
        )
        return {item["post"]["uri"] for item in items}

    assert provider.uris["mias"] in texts()
    mute_list(provider, "list")
    assert texts() == {provider.uris["rons"]}


def test_list_of_a_gone_account_mutes_nobody(provider: Provider) -> None:
    mute_list(provider, "gone")
    assert profile(provider, "ron")["muted"] is False
    assert provider.get(f"{GRAPH}getListMutes", viewer="vera") == {"lists": []}


def test_thread_mute_shows_on_every_post_of_the_thread(provider: Provider) -> None:
    body = {"root": provider.uris["rons"]}
    provider.post(f"{GRAPH}muteThread", body, viewer="vera")
    provider.post(f"{GRAPH}muteThread", body, viewer="vera")
    assert post(provider, "rons")["threadMuted"] is True
    assert post(provider, "reply")["threadMuted"] is True
    assert post(provider, "mias")["threadMuted"] is False
    assert post(provider, "reply", "will")["threadMuted"] is False
    provider.post(f"{GRAPH}unmuteThread", body, viewer="vera")
    assert post(provider, "reply")["threadMuted"] is False


@pytest.mark.parametrize(
    ("method", "field"), [("muteThread", "root"), ("muteActorList", "list")]
)
def test_mutes_refuse_other_records(
    provider: Provider, method: str, field: str
) -> None:
    body = {field: f"at://{did('mia')}/app.bsky.feed.like/3kabcdefghi2a"}
    with pytest.raises(RefusedError) as refused:
        provider.post(GRAPH + method, body, viewer="vera")
    assert refused.value.status == 400


def bookmark(provider: Provider, uri: str, method: str = "createBookmark") -> None:
    body = {"uri": uri, "cid": CID} if method == "createBookmark" else {"uri": uri}
    provider.post(BOOKMARK + method, body, viewer="vera")


def test_bookmarks_are_listed_newest_first_with_placeholders(
    provider: Provider,
) -> None:
    wanted = [provider.uris["mias"], UNKNOWN, provider.uris["lefts"]]
    for uri in (*wanted, wanted[0]):
        bookmark(provider, uri)
    found = provider.pages(
        f"{BOOKMARK}getBookmarks", "bookmarks", viewer="vera", limit=1
    )
    assert [item["subject"]["uri"] for item in found] == wanted[::-1]
    kinds = [item["item"]["$type"].partition("#")[2] for item in found]
    assert kinds == ["notFoundPost", "notFoundPost", "postView"]
    assert post(provider, "mias")["bookmarked"] is True
    assert post(provider, "rons")["bookmarked"] is False
    assert post(provider, "mias", "will")["bookmarked"] is False
    for _ in range(2):
        bookmark(provider, wanted[0], "deleteBookmark")
    assert post(provider, "mias")["bookmarked"] is False


@pytest.mark.parametrize("method", ["createBookmark", "deleteBookmark"])
def test_bookmarks_are_of_posts(provider: Provider, method: str) -> None:
    with pytest.raises(RefusedError) as refused:
        bookmark(provider, provider.uris["list"], method)
    assert refused.value.name == "UnsupportedCollection"


def test_bookmarks_are_bounded(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(private_items.MOST, Kind.BOOKMARK, 1)
    bookmark(provider, UNKNOWN)
    bookmark(provider, UNKNOWN)
    with pytest.raises(RefusedError, match="at most 1 bookmarks"):
        bookmark(provider, provider.uris["mias"])


def draft(provider: Provider, text: str) -> str:
    body = {"draft": {"posts": [{"text": text}]}}
    answer = provider.post(f"{DRAFT}createDraft", body, viewer="vera")
    found: str = json.loads(answer)["id"]
    return found


def drafts(provider: Provider, viewer: str = "vera") -> list[str]:
    found = provider.pages(f"{DRAFT}getDrafts", "drafts", viewer=viewer, limit=1)
    return [item["draft"]["posts"][0]["text"] for item in found]


def test_drafts_are_changed_listed_and_deleted(provider: Provider) -> None:
    first, second = draft(provider, "one"), draft(provider, "two\0")
    assert drafts(provider) == ["two\0", "one"]
    assert drafts(provider, "will") == []
    for number in (first, "3kabcdefghi2a"):
        body = {"draft": {"id": number, "draft": {"posts": [{"text": "new"}]}}}
        provider.post(f"{DRAFT}updateDraft", body, viewer="vera")
    assert drafts(provider) == ["new", "two\0"]
    for _ in range(2):
        provider.post(f"{DRAFT}deleteDraft", {"id": second}, viewer="vera")
    [left] = provider.get(f"{DRAFT}getDrafts", viewer="vera")["drafts"]
    assert left["id"] == first
    assert left["createdAt"] <= left["updatedAt"]


def test_drafts_are_bounded(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(private_items.MOST, Kind.DRAFT, 1)
    draft(provider, "one")
    with pytest.raises(RefusedError) as refused:
        draft(provider, "two")
    assert refused.value.name == "DraftLimitReached"


def test_preferences_are_replaced_as_a_whole(provider: Provider) -> None:
    def held(viewer: str = "vera") -> Any:
        return provider.get(f"{ACTOR}getPreferences", viewer=viewer)["preferences"]

    def put(*values: Any) -> None:
        body = {"preferences": [*values]}
        provider.post(f"{ACTOR}putPreferences", body, viewer="vera")

    adult = {"$type": f"{ACTOR}defs#adultContentPref", "enabled": True}
    tags = {"$type": f"{ACTOR}defs#interestsPref", "tags": ["x" * 9]}
    assert held() == []
    put(adult, tags)
    assert held() == [adult, tags]
    put(tags)
    assert held() == [tags]
    assert held("will") == []
    with pytest.raises(RefusedError, match="type"):
        put({"$type": "org.example.pref"})
    big = [{**tags, "tags": ["x" * 60] * 100} for _ in range(40)]
    with pytest.raises(RefusedError, match="bytes"):
        put(*big)
    assert held() == [tags]


PROCEDURES = {
    f"{GRAPH}muteActorList": {"list": UNKNOWN},
    f"{GRAPH}unmuteActorList": {"list": UNKNOWN},
    f"{GRAPH}muteThread": {"root": UNKNOWN},
    f"{GRAPH}unmuteThread": {"root": UNKNOWN},
    f"{BOOKMARK}createBookmark": {"uri": UNKNOWN, "cid": CID},
    f"{BOOKMARK}deleteBookmark": {"uri": UNKNOWN},
    f"{DRAFT}createDraft": {"draft": {"posts": [{"text": ""}]}},
    f"{DRAFT}updateDraft": {
        "draft": {"id": "3kabcdefghi2a", "draft": {"posts": [{"text": ""}]}}
    },
    f"{DRAFT}deleteDraft": {"id": "3kabcdefghi2a"},
    f"{ACTOR}putPreferences": {"preferences": []},
}
QUERIES = (
    f"{GRAPH}getListMutes",
    f"{BOOKMARK}getBookmarks",
    f"{DRAFT}getDrafts",
    f"{ACTOR}getPreferences",
)


def call(provider: Provider, nsid: str, viewer: str | None) -> None:
    if nsid in PROCEDURES:
        provider.post(nsid, PROCEDURES[nsid], viewer=viewer)
    else:
        provider.get(nsid, viewer=viewer)


@pytest.mark.parametrize("viewer", [None, "vera#atproto_labeler"])
def test_private_methods_need_an_account(
    provider: Provider, viewer: str | None
) -> None:
    for nsid in (*PROCEDURES, *QUERIES):
        with pytest.raises(RefusedError) as refused:
            call(provider, nsid, viewer)
        assert refused.value.status == 401
        if viewer is None:
            assert refused.value.name == "AuthMissing"


def test_nothing_is_readable_in_the_database(provider: Provider) -> None:
    draft(provider, "a secret plan")
    bookmark(provider, provider.uris["mias"])
    body = {"actor": did("ron")}
    provider.post(f"{GRAPH}muteActor", body, viewer="vera")
    with psycopg.connect(provider.database) as conn:
        rows = conn.execute("SELECT account, sealed FROM private_item").fetchall()
    whole = b"".join(value for row in rows for value in row)
    assert len(rows) == 3
    for word in (b"secret", b"did:", did("vera").encode()):
        assert word not in whole
