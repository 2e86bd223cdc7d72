"""For You over an index: exclusions, feedback, and pages of one ranking."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from for_you_world import (
    ANNA,
    BERT,
    FRIEND,
    NOW,
    OTHER,
    PARAMETERS,
    POST,
    VIEWER,
    World,
    page,
    posts,
    shared,
    told,
    warm,
)

from feeds.for_you.co_likes import CoLikes
from feeds.for_you.for_you_reasons import explain
from feeds.skeleton import FeedRequest
from storage.records.addresses import Address


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
