"""Suggestions and trends from follows, likes and tags in the index."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import SERVICE, World, did

from feeds.registry import FEEDS
from search.topics import count_topics
from storage.postgres.pool import connect
from storage.private.mutes import Mute, save_mute
from storage.records.popular import find_popular, refresh_popular

UNSPECCED = "app.bsky.unspecced."
USERS = tuple(
    f"{UNSPECCED}getSuggested{name}"
    for name in (
        "Users",
        "UsersForDiscover",
        "UsersForExplore",
        "UsersForSeeMore",
        "OnboardingUsers",
    )
)
PACKS = ("getSuggestedStarterPacks", "getOnboardingSuggestedStarterPacks")
DECLARATION = "app.bsky.actor.contentVisibilityDeclaration"
NOW = datetime.now(UTC)


def fill(world: World) -> dict[str, str]:
    """Vera follows two friends; they follow others, some of whom are hidden."""
    for name in ("vera", "friend1", "friend2", "near", "far", "shy", "odd", "mean"):
        if name != "near":  # an account without a profile
            profile = {"displayName": name}
            world.write(name, "app.bsky.actor.profile", profile, "self")
    world.write(
        "shy", DECLARATION, {"hideFromAlgorithmicRecommendations": True}, "self"
    )
    world.write("odd", DECLARATION, {"hideFromAlgorithmicRecommendations": 7}, "self")
    world.write(
        "open", DECLARATION, {"hideFromAlgorithmicRecommendations": False}, "self"
    )
    world.write("mean", "app.bsky.graph.block", {"subject": did("vera")})
    world.write("vera", "app.bsky.graph.block", {"subject": did("avoided")})
    for name in ("avoided", "quiet", "star", "gone"):
        world.post(name, f"I am {name}")
    for friend in ("friend1", "friend2"):
        world.follow("vera", friend)
        for other in (
            *("vera", "near", "shy", "odd", "open", "mean", "avoided", "quiet"),
            *("gone", "nobody"),
        ):
            world.follow(friend, other)
        world.follow(friend, "friend1" if friend == "friend2" else "friend2")
    world.follow("friend1", "far")
    for number in range(12):
        world.follow(f"fan{number:02}", "star")
    uris = {}
    for name, owner in (("one", "star"), ("two", "friend1"), ("three", "mean")):
        record = {"did": SERVICE, "displayName": name, "description": "a feed"}
        uris[name] = world.write(owner, "app.bsky.feed.generator", record, name)
    for number in range(3):
        world.like(f"fan{number:02}", uris["one"])
    world.like("friend2", uris["three"])
    uris["liked"] = world.write(
        "far", "app.bsky.feed.generator", {"did": SERVICE, "displayName": "L"}, "liked"
    )
    world.like("vera", uris["liked"])
    _fill_packs(world, uris)
    _fill_topics(world)
    return uris


def _fill_packs(world: World, uris: dict[str, str]) -> None:
    for name in ("star", "friend1", "shy"):
        purpose = {"name": "list", "purpose": "app.bsky.graph.defs#referencelist"}
        held = world.write(name, "app.bsky.graph.list", purpose)
        for other in ("near", "mean"):
            item = {"subject": did(other), "list": held}
            world.write(name, "app.bsky.graph.listitem", item)
        pack = {"name": f"{name}'s", "list": held, "feeds": [{"uri": uris["one"]}]}
        uris[f"pack_{name}"] = world.write(name, "app.bsky.graph.starterpack", pack)


def _fill_topics(world: World) -> None:
    at = (NOW - timedelta(minutes=5)).isoformat()
    for name in ("star", "near", "shy"):
        world.post(name, "news", tags=["Elections"], createdAt=at)
    card = {"uri": "https://www.paper.example/a", "title": "", "description": ""}
    embed = {"$type": "app.bsky.embed.external", "external": card}
    for name in ("star", "far"):
        world.post(name, "card", embed=embed, createdAt=at)
    for _ in range(40):
        world.post("mean", "spam", tags=["spam"], createdAt=at)
    world.post("star", "old", tags=["old"])
    world.post("near", "old", tags=["old"])


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={"gone": "deactivated"}) as provider:
        with connect(url) as conn:
            refresh_popular(conn, 1_000)
            count_topics(conn, NOW)
        with provider.app.private.write() as conn:
            vera = provider.app.vault.account(did("vera"))
            save_mute(conn, vera, did("quiet"), Mute())
        yield provider
    databases.drop(url)


def names(actors: list[dict[str, Any]]) -> list[str]:
    return [actor["handle"].removesuffix(".test") for actor in actors]


def test_suggestions_are_what_follows_follow_then_what_is_popular(
    provider: Provider,
) -> None:
    found = provider.get("app.bsky.actor.getSuggestions", viewer="vera", limit=100)
    # Two friends follow the first two, one the third; the last are only popular.
    assert set(names(found["actors"])[:2]) == {"near", "open"}
    assert names(found["actors"])[2:] == ["far", "star"]
    for limit in (1, 2):
        paged = provider.pages(
            "app.bsky.actor.getSuggestions", "actors", viewer="vera", limit=limit
        )
        assert paged == found["actors"]


@pytest.mark.parametrize("nsid", USERS)
def test_suggested_users_leave_out_hidden_and_followed_accounts(
    provider: Provider, nsid: str
) -> None:
    for limit in (1, 50):
        own = provider.get(nsid, viewer="vera", limit=limit)
        assert names(own["actors"]) == ["near", "open", "far", "star"][:limit]
        assert "cursor" not in own
    everybody = names(provider.get(nsid, limit=50)["actors"])
    assert everybody[0] == "star"
    assert not {"shy", "odd", "gone"} & {*everybody}
    assert {"mean", "avoided", "quiet", "friend1", "vera"} <= {*everybody}
    unknown = provider.get(nsid, viewer="unknown", limit=50)
    assert names(unknown["actors"]) == everybody


def test_blocked_viewer_is_not_suggested_to_the_one_that_blocks(
    provider: Provider,
) -> None:
    for viewer in ("mean", "avoided"):
        found = provider.get(USERS[0], viewer=viewer, limit=50)["actors"]
        assert "vera" not in names(found)


def test_similar_accounts_have_the_same_followers(provider: Provider) -> None:
    nsid = "app.bsky.graph.getSuggestedFollowsByActor"
    found = provider.get(nsid, actor="far.test")["suggestions"]
    assert {"near", "open", "friend2"} <= {*names(found)}
    assert "star" not in names(found)
    assert provider.get(nsid, actor="vera.test", viewer="vera")["suggestions"]
    assert provider.get(nsid, actor="fan00.test") == {"suggestions": []}
    with pytest.raises(RefusedError) as refused:
        provider.get(nsid, actor="unknown.test")
    assert refused.value.message == "Actor not found: unknown.test"


def test_likes_of_the_same_posts_suggest_what_their_authors_like(
    databases: Any,
) -> None:
    def fill_likes(world: World) -> dict[str, str]:
        posts = [world.post("writer", f"post {n}") for n in range(3)]
        for name in ("vera", "twin"):
            for post in posts:
                world.like(name, post)
        world.follow("twin", "found")
        world.post("found", "hello")
        return {}

    url = databases.make("index")
    with serve_world(url, fill_likes, statuses={}) as provider:
        found = provider.get(USERS[0], viewer="vera")["actors"]
        assert names(found) == ["writer", "found"]
    databases.drop(url)


def test_suggested_feeds_leave_out_liked_and_blocked_ones(provider: Provider) -> None:
    uris = provider.uris
    nsid = "app.bsky.feed.getSuggestedFeeds"
    found = [f["uri"] for f in provider.pages(nsid, "feeds", viewer="vera", limit=2)]
    assert found[:2] == [uris["two"], uris["one"]]
    assert not {uris["three"], uris["liked"]} & {*found}
    assert len(found) == len({*found}) == 2 + len(FEEDS)
    short = provider.get(f"{UNSPECCED}getSuggestedFeeds", viewer="vera", limit=1)
    assert [feed["uri"] for feed in short["feeds"]] == [uris["two"]]
    everybody = provider.get(f"{UNSPECCED}getSuggestedFeeds", limit=25)["feeds"]
    assert everybody[0]["uri"] == uris["one"]
    assert uris["three"] in [feed["uri"] for feed in everybody]


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_popular_feeds_are_paged_in_one_order(provider: Provider, limit: int) -> None:
    nsid = f"{UNSPECCED}getPopularFeedGenerators"
    found = provider.pages(nsid, "feeds", limit=limit)
    assert found[0]["uri"] == provider.uris["one"]
    assert len(found) == len({feed["uri"] for feed in found}) == 4 + len(FEEDS)


def test_a_cursor_keeps_its_list_while_likes_change(provider: Provider) -> None:
    nsid = f"{UNSPECCED}getPopularFeedGenerators"
    whole = provider.pages(nsid, "feeds", limit=100)
    first = provider.get(nsid, limit=1)
    with connect(provider.database) as conn:
        conn.execute("UPDATE subject_stats SET likes = 100 - likes")
        refresh_popular(conn, 1_060)
    cursor, found = first["cursor"], first["feeds"]
    while cursor:
        page = provider.get(nsid, limit=1, cursor=cursor)
        cursor = page.get("cursor")
        found += page["feeds"]
    assert [f["uri"] for f in found] == [f["uri"] for f in whole]
    with connect(provider.database) as conn:
        conn.execute("UPDATE subject_stats SET likes = 100 - likes")
        conn.execute("DELETE FROM popular WHERE generation = 1060")


def test_short_lists_are_written_anew_and_long_ones_kept(databases: Any) -> None:
    url = databases.make("index")
    with connect(url) as conn:
        assert find_popular(conn, 0, limit=10) == []
        conn.execute(
            "INSERT INTO actor_stats (actor, followers)"
            " SELECT n, n FROM generate_series(1, 1500) n"
        )
        live = find_popular(conn, 0, limit=3)
        assert [entry.actor for entry in live] == [1500, 1499, 1498]
        assert find_popular(conn, 0, limit=5, after=(0, 999))[0].actor == 501
        assert find_popular(conn, 0, limit=5, after=(0, 1000)) == []
        assert refresh_popular(conn, 1_000) == 1_000
        assert refresh_popular(conn, 1_800) == 0
        assert refresh_popular(conn, 1_901) == 1_000
        assert refresh_popular(conn, 10_000) == 1_000
        row = conn.execute("SELECT count(DISTINCT generation) FROM popular").fetchone()
        assert row == (1,)
        # A forgotten list continues at its place.
        [entry] = find_popular(conn, 0, limit=1, after=(1_000, 10))
        assert (entry.actor, entry.generation, entry.place) == (1490, 10_000, 11)
    databases.drop(url)


@pytest.mark.parametrize("name", PACKS)
def test_suggested_starter_packs_show_list_members_and_feeds(
    provider: Provider, name: str
) -> None:
    packs = provider.get(UNSPECCED + name, viewer="vera")["starterPacks"]
    assert [pack["uri"] for pack in packs] == [
        provider.uris["pack_friend1"],
        provider.uris["pack_star"],
    ]
    for pack in packs:
        assert pack["list"]["listItemCount"] == 2
        members = [item["subject"] for item in pack["listItemsSample"]]
        # The first one blocks the viewer; clients know it by the viewer state.
        assert names(members) == ["mean", "near"]
        assert members[0]["viewer"]["blockedBy"] is True
        assert [feed["uri"] for feed in pack["feeds"]] == [provider.uris["one"]]
    found = provider.skeleton(f"{UNSPECCED}{name}Skeleton", of="vera")
    assert found["starterPacks"] == [pack["uri"] for pack in packs]


def test_trends_count_accounts_and_not_posts(provider: Provider) -> None:
    answer = provider.get(f"{UNSPECCED}getTrendingTopics")
    assert [topic["topic"] for topic in answer["topics"]] == [
        *("elections", "paper.example")
    ]
    links = [topic["link"] for topic in answer["topics"]]
    assert links == ["/search?q=%23elections", "/search?q=domain%3Apaper.example"]
    [trend, _] = provider.get(f"{UNSPECCED}getTrends")["trends"]
    assert trend["postCount"] == 3
    # One of the accounts asks not to be recommended.
    assert {*names(trend["actors"])} == {"star", "near"}
    found = provider.get(f"{UNSPECCED}getTrendsSkeleton", limit=1)["trends"]
    assert {*found[0]["dids"]} == {did("star"), did("near")}


def test_usual_topics_do_not_trend(provider: Provider) -> None:
    hour = NOW.replace(minute=0, second=0, microsecond=0)
    with psycopg.connect(provider.database) as conn:
        for back in range(3, 168):
            conn.execute(
                "INSERT INTO search_topic_hour VALUES ('#elections', %s, 30)",
                (hour - timedelta(hours=back),),
            )
        count_topics(conn, NOW)
        conn.commit()
        answer = provider.get(f"{UNSPECCED}getTrendingTopics")
        assert [topic["topic"] for topic in answer["topics"]] == ["paper.example"]
        assert [topic["topic"] for topic in answer["suggested"]] == ["elections"]
        shown = answer["topics"][0]["description"]
        assert shown == "from 0 to 2 accounts in two hours"
        usual = answer["suggested"][0]["description"]
        assert usual.startswith("from 59 to ")
        # Past hours are kept, past posts are not.
        later = NOW + timedelta(hours=5)
        assert count_topics(conn, later) == 0
        assert conn.execute("SELECT count(*) FROM search_topic").fetchone() == (0,)
        conn.execute("DELETE FROM search_topic_hour")
        count_topics(conn, NOW)
        conn.rollback()
    with psycopg.connect(provider.database) as conn:
        conn.execute("DELETE FROM search_topic_hour")
        count_topics(conn, NOW)


@pytest.mark.parametrize(
    "name",
    [nsid.removeprefix(UNSPECCED) for nsid in USERS[:4]]
    + ["getOnboardingSuggestedUsers"],
)
def test_skeletons_take_the_viewer_as_a_parameter(
    provider: Provider, name: str
) -> None:
    nsid = f"{UNSPECCED}{name}Skeleton"
    assert provider.skeleton(nsid, limit=50)["dids"][0] == did("star")
    own = provider.skeleton(nsid, of="vera", limit=50)["dids"]
    # Mutes are private: an unproven viewer does not reveal them.
    assert {*own} == {did(n) for n in ("near", "open", "far", "star", "quiet")}
    # Without a token, a header says nothing about the viewer.
    assert provider.get(nsid, viewer="vera", limit=1)["dids"] == [did("star")]


def test_skeleton_of_suggestions_is_paged_and_may_be_relative(
    provider: Provider,
) -> None:
    nsid = f"{UNSPECCED}getSuggestionsSkeleton"
    found: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(9):
        page = provider.skeleton(nsid, of="vera", limit=2, **cursor)
        found += [actor["did"] for actor in page["actors"]]
        if "cursor" not in page:
            break
        cursor = {"cursor": page["cursor"]}
    assert len(found) == len({*found}) == 5
    with pytest.raises(RefusedError) as refused:
        provider.skeleton(nsid, of="near", limit=2, **cursor)
    assert refused.value.name == "InvalidCursor"
    about = provider.skeleton(nsid, relativeToDid=did("far"))
    assert about["relativeToDid"] == did("far")
    assert did("near") in [actor["did"] for actor in about["actors"]]
    assert provider.skeleton(nsid, relativeToDid=did("unknown"))["actors"] == []


def test_skeleton_of_feeds_and_tagged_suggestions(provider: Provider) -> None:
    nsid = f"{UNSPECCED}getSuggestedFeedsSkeleton"
    assert provider.skeleton(nsid, of="vera", limit=2)["feeds"] == [
        *(provider.uris["two"], provider.uris["one"])
    ]
    tagged = provider.get(f"{UNSPECCED}getTaggedSuggestions")["suggestions"]
    assert {s["subjectType"] for s in tagged} == {"actor", "feed"}
    assert tagged[0]["subject"] == did("star")
