"""Mutes: muteActor, unmuteActor, getMutes, and the pages that leave muted accounts
out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import SERVICE, World, did

from appview.app_bsky.graph import get_mutes, mute_actor
from appview.session import RequestContext
from search.drain import queue_everything
from storage import migrate
from storage.postgres.pool import open_pool
from storage.private import private_items
from storage.private.mutes import find_muted
from storage.private.private_items import Kind
from storage.private.private_store import PrivateStore

MUTE = "app.bsky.graph.muteActor"
UNMUTE = "app.bsky.graph.unmuteActor"
GET_MUTES = "app.bsky.graph.getMutes"
FEED = "app.bsky.feed.getFeed"
AUTHOR_FEED = "app.bsky.feed.getAuthorFeed"


def fill(world: World) -> dict[str, str]:
    """Write posts and reposts of Mia, who is to be muted, and of Ron. Vera follows
    all."""
    uris = {"mias": world.post("mia", "quokka of mia")}
    uris["rons"] = world.post("ron", "quokka of ron")
    uris["quote"] = world.quote("mia", uris["mias"])
    uris["reply"] = world.reply("mia", uris["rons"])
    uris["repost"] = world.repost("ron", uris["mias"])
    uris["repost of ron"] = world.repost("mia", uris["rons"])
    for name in ("mia", "ron", *(f"other{number}" for number in range(5))):
        world.write(name, "app.bsky.actor.profile", {"displayName": name}, "self")
        world.follow("vera", name)
        world.follow("will", name)
    return uris


@pytest.fixture(scope="module")
def served(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={"other4": "deactivated"}) as provider:
        yield provider
    databases.drop(url)


@pytest.fixture
def provider(served: Provider) -> Iterator[Provider]:
    """Return the provider; its private database is emptied after the test."""
    yield served
    with psycopg.connect(served.database) as conn:
        conn.execute("DELETE FROM private_item")


def mute(provider: Provider, name: str, *, viewer: str = "vera", **scope: bool) -> None:
    provider.post(MUTE, {"actor": did(name), **scope}, viewer=viewer)


def muted(provider: Provider, viewer: str = "vera") -> list[str]:
    found = provider.pages(GET_MUTES, "mutes", viewer=viewer, limit=1)
    return [profile["displayName"] for profile in found]


def feed(provider: Provider, viewer: str = "vera") -> set[tuple[str, str | None]]:
    """Return the followed posts, each with its repost."""
    uri = f"at://{SERVICE}/app.bsky.feed.generator/following"
    items = provider.pages(FEED, "feed", feed=uri, viewer=viewer, limit=2)
    return {(i["post"]["uri"], i.get("reason", {}).get("uri")) for i in items}


def test_mute_is_listed_and_shown_until_it_ends(provider: Provider) -> None:
    mute(provider, "mia")
    [found] = provider.get(GET_MUTES, viewer="vera")["mutes"]
    assert found["did"] == did("mia")
    assert found["viewer"]["muted"] is True
    provider.post(UNMUTE, {"actor": "mia.test"}, viewer="vera")
    assert provider.get(GET_MUTES, viewer="vera") == {"mutes": []}
    profile = provider.get("app.bsky.actor.getProfile", actor="mia.test", viewer="vera")
    assert profile["viewer"]["muted"] is False


def test_second_mute_changes_the_scope_and_keeps_one_entry(provider: Provider) -> None:
    mute(provider, "mia", onlyReposts=True)
    assert muted(provider) == []
    profile = provider.get("app.bsky.actor.getProfile", actor="mia.test", viewer="vera")
    assert profile["viewer"]["mutedOnlyReposts"] is True
    assert profile["viewer"]["muted"] is False
    mute(provider, "mia")
    mute(provider, "mia")
    assert muted(provider) == ["mia"]


def test_mutes_of_others_are_never_seen(provider: Provider) -> None:
    mute(provider, "mia")
    assert muted(provider, "will") == []
    whole = feed(provider, "will")
    assert (provider.uris["mias"], None) in whole
    provider.post(UNMUTE, {"actor": did("mia")}, viewer="will")
    assert muted(provider) == ["mia"]


def test_unmute_of_an_account_that_is_not_muted_changes_nothing(
    provider: Provider,
) -> None:
    mute(provider, "ron")
    provider.post(UNMUTE, {"actor": did("mia")}, viewer="vera")
    assert muted(provider) == ["ron"]


def test_pages_of_one_end_with_equal_times_and_a_hidden_account(
    provider: Provider,
) -> None:
    for number in range(5):
        mute(provider, f"other{number}")
    with psycopg.connect(provider.database) as conn:
        conn.execute("UPDATE private_item SET at = '2026-11-30T00:00:00.000001Z'")
    assert sorted(muted(provider)) == ["other0", "other1", "other2", "other3"]


def test_account_that_is_not_in_the_index_can_be_muted(provider: Provider) -> None:
    mute(provider, "unknown")
    assert muted(provider) == []
    vera = provider.app.vault.account(did("vera"))
    with provider.app.private.read() as conn:
        [(found, _, _)] = find_muted(conn, vera, 2)
    assert found == did("unknown")


@pytest.mark.parametrize(
    ("actor", "message"),
    [
        ("nobody.test", "Actor not found"),
        (did("vera"), "Actor cannot mute themselves"),
    ],
)
def test_mute_refuses(provider: Provider, actor: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        provider.post(MUTE, {"actor": actor}, viewer="vera")


@pytest.mark.parametrize("viewer", [None, "vera#atproto_labeler"])
def test_mutes_need_an_account(provider: Provider, viewer: str | None) -> None:
    for call in (
        lambda: provider.post(MUTE, {"actor": did("mia")}, viewer=viewer),
        lambda: provider.get(GET_MUTES, viewer=viewer),
    ):
        with pytest.raises(RefusedError) as refused:
            call()
        assert refused.value.status == 401


def test_mutes_of_one_viewer_are_bounded(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(private_items.MOST, Kind.MUTE, 1)
    mute(provider, "mia")
    mute(provider, "mia")
    with pytest.raises(RefusedError, match="at most 1"):
        mute(provider, "ron")


def test_feeds_leave_muted_accounts_out(provider: Provider) -> None:
    uris, whole = provider.uris, feed(provider)
    hers = {(uris[name], None) for name in ("mias", "quote", "reply")}
    reposts = {(uris["mias"], uris["repost"]), (uris["rons"], uris["repost of ron"])}
    assert hers | reposts <= whole
    mute(provider, "mia")
    assert feed(provider) == whole - hers - reposts
    mute(provider, "mia", onlyReposts=True)
    assert feed(provider) == whole - {(uris["rons"], uris["repost of ron"])}
    mute(provider, "mia", onlyQuoteposts=True)
    assert feed(provider) == whole - {(uris["quote"], None)}


def test_threads_and_profiles_show_muted_accounts(provider: Provider) -> None:
    mute(provider, "mia")
    uri = provider.uris["rons"]
    answer = provider.get("app.bsky.feed.getPostThread", uri=uri, viewer="vera")
    [reply] = answer["thread"]["replies"]
    assert reply["post"]["author"]["viewer"]["muted"] is True
    items = provider.get(AUTHOR_FEED, actor="mia.test", viewer="vera")["feed"]
    assert {item["post"]["uri"] for item in items} >= {provider.uris["mias"], uri}


def test_author_feed_leaves_reposts_of_muted_accounts_out(provider: Provider) -> None:
    def posts() -> set[str]:
        items = provider.get(AUTHOR_FEED, actor="ron.test", viewer="vera")["feed"]
        return {item["post"]["uri"] for item in items}

    assert posts() == {provider.uris["rons"], provider.uris["mias"]}
    mute(provider, "mia")
    assert posts() == {provider.uris["rons"]}
    mute(provider, "ron")
    assert posts() == {provider.uris["rons"], provider.uris["mias"]}


def test_request_holds_one_connection_at_a_time(provider: Provider) -> None:
    with open_pool(provider.database, min=1, max=1, timeout=5) as pool:
        app = replace(provider.app, pool=pool, private=PrivateStore(pool))
        context = RequestContext(app, MUTE, viewer_did=did("vera"))
        mute_actor.METHOD.run(context, {"actor": did("mia")})
        context = RequestContext(app, GET_MUTES, viewer_did=did("vera"))
        found = get_mutes.METHOD.run(context, {"limit": 5})
    assert [profile["did"] for profile in found["mutes"]] == [did("mia")]


def test_mutes_survive_a_rebuild_of_the_index(provider: Provider) -> None:
    mute(provider, "mia")
    with psycopg.connect(provider.database) as conn:
        queue_everything(conn, provider.app.engine)
        # A new index numbers its accounts anew.
        conn.execute("TRUNCATE profile, actor_stats")
        conn.execute("UPDATE actor SET did = did || 'x' WHERE did = %s", (did("mia"),))
        conn.execute(
            "INSERT INTO actor (did, handle) VALUES (%s, 'new.test')", (did("mia"),)
        )
        conn.execute(
            "INSERT INTO repo (actor, host, state)"
            " SELECT id, 1, 'synchronized' FROM actor WHERE did = %s",
            (did("mia"),),
        )
    migrate.upgrade(provider.database, "private")
    [found] = provider.get(GET_MUTES, viewer="vera")["mutes"]
    assert (found["did"], found["handle"]) == (did("mia"), "new.test")
    assert found["viewer"]["muted"] is True
