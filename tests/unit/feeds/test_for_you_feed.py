"""For You over an index: exclusions, feedback, restarts, and pages of one ranking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from feeds.feedback import Feedback
from feeds.for_you.co_likes import CoLikes
from feeds.for_you.for_you_feed import FEED
from feeds.for_you.for_you_reasons import explain
from feeds.for_you.parameters import PUBLISHED
from feeds.opt_outs import VISIBILITY_DECLARATION
from feeds.skeleton import FeedRequest, SkeletonEntry
from protocol.data.cbor import encode
from storage.collections import COLLECTION_IDS, FEED_POST, LIKE_SUBJECT, RKEY_SELF
from storage.postgres.pool import Conn
from storage.private.sealing import Vault
from storage.records.addresses import Address, name_addresses_in
from storage.records.record_codec import compress

POST = COLLECTION_IDS[FEED_POST]
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
VIEWER, FRIEND, OTHER, ANNA, BERT = 1, 2, 3, 4, 5
ACCOUNT = Vault(b"secret of private state".ljust(32)).account("did:plc:viewer")


class World:
    """An index with a few accounts."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self.minutes = 0
        for number in range(1, 6):
            conn.execute("INSERT INTO actor (did) VALUES (%s)", (f"did:plc:a{number}",))

    def post(
        self, actor: int, hours_ago: float = 2.0, parent: Address | None = None
    ) -> Address:
        """Add a post with a record key of its time."""
        at = NOW - timedelta(hours=hours_ago)
        self.minutes += 1
        rkey = (round(at.timestamp() * 1_000_000) + self.minutes) << 10
        above = (parent.actor, parent.rkey) if parent else (None, None)
        self.conn.execute(
            "INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at,"
            " parent_actor, parent_rkey) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (actor, rkey, at, at, at, *above),
        )
        return Address(actor, POST, rkey)

    def like(self, actor: int, post: Address, minutes_ago: float = 30) -> None:
        self.minutes += 1
        self.conn.execute(
            "INSERT INTO link (path, actor, rkey, target_actor, target_collection,"
            " target_rkey, sort_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                *(LIKE_SUBJECT, actor, self.minutes, *post),
                NOW - timedelta(minutes=minutes_ago),
            ),
        )
        self.conn.execute(
            "INSERT INTO post_stats (actor, rkey, likes) VALUES (%s, %s, 1)"
            " ON CONFLICT (actor, rkey) DO UPDATE SET likes = post_stats.likes + 1",
            (post.actor, post.rkey),
        )

    def unlike(self, actor: int, post: Address) -> None:
        self.conn.execute(
            "DELETE FROM link WHERE actor = %s AND target_rkey = %s", (actor, post.rkey)
        )

    def declare(self, actor: int, value: Any) -> None:
        """Write a visibility declaration."""
        self.conn.execute(
            "INSERT INTO collection (nsid) VALUES (%s) ON CONFLICT DO NOTHING",
            (VISIBILITY_DECLARATION,),
        )
        self.conn.execute(
            "INSERT INTO record (actor, collection, rkey, value)"
            " SELECT %s, id, %s, %s FROM collection WHERE nsid = %s",
            (actor, RKEY_SELF, compress(encode(value)), VISIBILITY_DECLARATION),
        )

    def uri(self, post: Address) -> str:
        return name_addresses_in(self.conn, [post])[post]


@pytest.fixture
def world(conn: Conn) -> Iterator[World]:
    yield World(conn)
    conn.rollback()


PARAMETERS = replace(PUBLISHED, min_results=0)


def warm(world: World, **changes: Any) -> CoLikes:
    co_likes = CoLikes(replace(PARAMETERS, **changes), clock=NOW.timestamp)
    co_likes.read(world.conn)
    return co_likes


def page(
    world: World, co_likes: CoLikes, limit: int = 50, **request: Any
) -> list[SkeletonEntry]:
    request = {"viewer": VIEWER, "limit": limit} | request
    return FEED.build(world.conn, FeedRequest(**request, co_likes=co_likes))


def posts(entries: list[SkeletonEntry]) -> list[Address]:
    return [entry.item.post for entry in entries]


def shared(world: World) -> Address:
    """Add a post that the viewer and two others like."""
    post = world.post(ANNA)
    for actor in (VIEWER, FRIEND, OTHER):
        world.like(actor, post)
    return post


def told(world: World, **events: list[tuple[Address, datetime]]) -> Feedback:
    def micros(at: datetime) -> int:
        return round(at.timestamp() * 1_000_000)

    seen = {
        ACCOUNT.subject(world.uri(post)): micros(at)
        for post, at in events.get("seen", [])
    }
    less, more = (
        {world.uri(post): micros(at) for post, at in events.get(name, [])}
        for name in ("less", "more")
    )
    return Feedback(ACCOUNT, seen, less, more)


def test_page_has_posts_of_co_likers_with_reasons(world: World) -> None:
    post = shared(world)
    found, alone = world.post(BERT), world.post(BERT)
    world.like(FRIEND, found)
    world.like(OTHER, found)
    world.like(FRIEND, alone)
    entries = page(world, warm(world))
    assert posts(entries) == [found, alone]
    assert entries[0].item.feed_context == (
        f"for-you co-likes paths=2 via={world.uri(post)}"
    )
    score, actor, rkey, *_ = entries[0].keyset
    assert (actor, rkey) == (found.actor, found.rkey)
    assert score > entries[1].keyset[0] > 0


def test_own_liked_deleted_old_posts_and_replies_are_left_out(world: World) -> None:
    first = shared(world)
    kept = world.post(BERT)
    mine = world.post(VIEWER)
    reply = world.post(BERT, parent=first)
    old = world.post(BERT, hours_ago=24 * 8)
    gone = Address(BERT, POST, kept.rkey + 1024)
    # Liked a moment ago, after the likes in memory were read.
    liked_now = world.post(BERT)
    for post in (kept, mine, reply, old, gone, liked_now):
        world.like(FRIEND, post)
    co_likes = warm(world)
    world.like(VIEWER, liked_now, minutes_ago=0)
    assert posts(page(world, co_likes)) == [kept]


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        ({"hideFromAlgorithmicRecommendations": True}, True),
        ({"hideFromAlgorithmicRecommendations": False}, False),
        ({"hideFromAlgorithmicRecommendations": 7}, True),
        ({}, True),
        ({"x": "y" * 40_000}, True),
        ([1], True),
    ],
)
def test_accounts_that_opted_out_never_appear(
    world: World, value: Any, hidden: bool
) -> None:
    shared(world)
    found = world.post(BERT)
    world.like(FRIEND, found)
    world.declare(BERT, value)
    warmed = warm(world)
    assert (found in posts(page(world, warmed))) is not hidden
    # Among popular posts neither.
    cold = warm(world, min_results=10)
    assert (found in posts(page(world, cold, viewer=None))) is not hidden


def test_cold_viewers_get_popular_posts_with_the_reason(world: World) -> None:
    shared(world)
    found = world.post(BERT)
    world.like(FRIEND, found)
    warmed = warm(world, min_results=10)

    def reasons(co_likes: CoLikes, viewer: int | None) -> set[str]:
        entries = page(world, co_likes, viewer=viewer)
        assert found in posts(entries)
        return {entry.item.feed_context for entry in entries}

    assert reasons(warmed, None) == {"for-you popular signed-out"}
    assert reasons(warmed, 999) == {"for-you popular no-likes"}
    cold = CoLikes(replace(PARAMETERS, min_results=10), clock=NOW.timestamp)
    assert reasons(cold, VIEWER) == {"for-you popular warming-up"}
    few = page(world, warmed)
    assert few[0].item.post == found
    assert "co-likes" in few[0].item.feed_context


def test_unlike_of_the_viewer_counts_at_once(world: World) -> None:
    post = shared(world)
    world.like(FRIEND, world.post(BERT))
    co_likes = warm(world)
    world.unlike(VIEWER, post)
    assert page(world, co_likes) == []


def test_see_less_leaves_out_the_post_and_counts_after_a_restart(world: World) -> None:
    shared(world)
    unwanted, beside, other = world.post(BERT), world.post(BERT), world.post(ANNA)
    for post in (unwanted, beside):
        world.like(FRIEND, post)
    world.like(OTHER, other)
    world.like(OTHER, unwanted)
    feedback = told(world, less=[(unwanted, NOW)])
    for _ in range(2):
        co_likes = warm(world)
        assert posts(page(world, co_likes))[0] == unwanted
        assert posts(page(world, co_likes, feedback=feedback)) == [other, beside]


def test_seen_posts_are_left_out_of_later_first_pages_only(world: World) -> None:
    shared(world)
    made = [world.post(BERT, hours_ago=1 + n) for n in range(6)]
    for post in made:
        world.like(FRIEND, post)
    co_likes = warm(world)
    first = page(world, co_likes, limit=2)
    assert posts(first) == made[:2]
    later = NOW + timedelta(seconds=5)
    feedback = told(world, seen=[(post, later) for post in made[:3]])
    # The same reading goes on, with the third post.
    second = page(world, co_likes, 2, after=first[-1].keyset, feedback=feedback)
    assert posts(second) == made[2:4]
    co_likes._clock = (later + timedelta(seconds=1)).timestamp
    assert posts(page(world, co_likes, feedback=feedback)) == made[3:]


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_pages_are_slices_of_one_ranking_while_likes_arrive(
    world: World, limit: int
) -> None:
    shared(world)
    for number in range(12):
        post = world.post(BERT if number % 2 else ANNA, hours_ago=1 + number % 3)
        world.like(FRIEND, post)
        if number % 4 == 0:
            world.like(OTHER, post)
    expected = posts(page(world, warm(world)))
    assert len(expected) == 12
    co_likes = warm(world)
    found: list[Address] = []
    after = None
    moment = NOW
    for _ in range(20):
        entries = page(world, co_likes, limit, after=after)
        found += posts(entries)
        if len(entries) < limit:
            break
        after = entries[-1].keyset
        moment += timedelta(seconds=40)
        # New posts and likes after the first page.
        new = world.post(BERT, hours_ago=-1)
        for actor in (FRIEND, OTHER):
            world.like(actor, new, minutes_ago=-1)
        # Another process, which holds no ranking.
        co_likes = CoLikes(PARAMETERS, clock=moment.timestamp)
        co_likes.read(world.conn)
    assert found == expected


def test_new_likes_are_read_as_if_all_were_read_again(world: World) -> None:
    shared(world)
    world.like(FRIEND, world.post(BERT))
    moments = iter(NOW.timestamp() + 10 * n for n in range(1_000))
    last = [0.0]

    def clock() -> float:
        last[0] = next(moments)
        return last[0]

    co_likes = CoLikes(replace(PARAMETERS, settle_s=0, hold_s=1), clock=clock)
    co_likes.read(world.conn)
    graph = co_likes.graph
    assert graph is not None
    size = graph.size
    new = world.post(BERT)
    # Applied late: between likes that are known.
    world.like(OTHER, new, minutes_ago=0.5)
    world.like(FRIEND, new, minutes_ago=-0.1)
    for _ in range(3):
        co_likes.read(world.conn)
    assert co_likes.graph is graph
    assert graph.size == size + 2
    again = CoLikes(replace(PARAMETERS, settle_s=0, hold_s=1), lambda: last[0])
    again.read(world.conn)
    entries = [
        FEED.build(world.conn, FeedRequest(VIEWER, 50, [2**62, 0, 0, *at], co_likes=c))
        for c in (co_likes, again)
        for at in [(again.settled(), again.now())]
    ]
    assert entries[0] == entries[1]
    assert new in posts(entries[0])


def test_memory_is_bounded_by_the_newest_likes(world: World) -> None:
    post = world.post(ANNA, hours_ago=60)
    for hours in range(50):
        world.like(FRIEND, post if hours == 0 else world.post(ANNA), hours * 60 + 10)
    graph = warm(world, max_likes=10).graph
    assert graph is not None
    assert graph.size == 10
    assert graph.number_of(post) is not None
    assert warm(world, max_likes=1_000).graph.size == 50  # type: ignore[union-attr]


def test_odd_record_keys_and_times_are_read(world: World) -> None:
    shared(world)
    odd = [
        Address(BERT, POST, -5),
        Address(BERT, POST, 2**63 - 1),
        Address(BERT, POST, 1),
    ]
    for post in odd:
        world.conn.execute(
            "INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            (post.actor, post.rkey, *[NOW - timedelta(hours=1)] * 3),
        )
        world.like(FRIEND, post)
    # A like of another collection, and one long before the window.
    world.like(FRIEND, Address(BERT, 4, 77))
    world.like(FRIEND, world.post(BERT), minutes_ago=60 * 24 * 365 * 900)
    found = posts(page(world, warm(world)))
    # The key 1 is a time of 1970: the post counts as old.
    assert {*found} == {*odd[:2]}


def test_explain_says_why_or_why_not(world: World) -> None:
    first = shared(world)
    found = world.post(BERT)
    world.like(FRIEND, found)
    mine, reply = world.post(VIEWER), world.post(BERT, parent=first)
    old, fresh = world.post(BERT, hours_ago=24 * 8), world.post(BERT, hours_ago=0)
    unliked, apart = world.post(BERT), world.post(BERT)
    world.like(999, apart)
    opted = world.post(OTHER)
    world.declare(opted.actor, {})
    unwanted, seen = world.post(ANNA), world.post(ANNA)
    for post in (unwanted, seen, opted):
        world.like(FRIEND, post)
    feedback = told(world, less=[(unwanted, NOW)], seen=[(seen, NOW)])
    co_likes = warm(world)

    def words(post: Address, viewer: int | None = VIEWER) -> str:
        request = FeedRequest(viewer, 1, feedback=feedback, co_likes=co_likes)
        return explain(world.conn, request, post)

    answer = words(found)
    assert answer.startswith("in, at rank ")
    assert world.uri(first) in answer
    assert "2 accounts" not in answer
    reasons = {
        mine: "your own",
        reply: "a reply",
        old: "older than 7 days",
        fresh: "too new",
        unliked: "nobody liked it",
        apart: "no account that likes what you like",
        opted: "asked not to be recommended",
        unwanted: "see less",
        seen: "seen it before",
        first: "like it already",
        Address(BERT, POST, 12): "no such post",
    }
    for post, reason in reasons.items():
        answer = words(post)
        assert answer.startswith("not in: "), (post, answer)
        assert reason in answer, (post, answer)
    assert "nobody is signed in" in words(found, None)
    assert "no post that is in memory" in words(found, 998)
