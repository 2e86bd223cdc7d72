"""The likes of For You in memory: all read at once, new ones, and bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

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
    warm,
)

from feeds.for_you.co_likes import RELOAD_S, CoLikes
from feeds.for_you.for_you_feed import FEED
from feeds.for_you.like_reader import LoadStoppedError, load_graph
from feeds.skeleton import FeedRequest
from storage.postgres.pool import Pool
from storage.records.addresses import Address


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


def test_worn_likes_are_read_again_without_deleted_ones(world: World) -> None:
    post = shared(world)
    world.like(FRIEND, world.post(BERT))
    moment = [NOW.timestamp()]
    co_likes = CoLikes(replace(PARAMETERS, max_likes=8), clock=lambda: moment[0])
    co_likes.read(world.conn)
    first = co_likes.graph
    assert first is not None
    assert first.size == 4
    world.unlike(OTHER, post)
    moment[0] += 60
    co_likes.read(world.conn)
    assert co_likes.graph is first
    moment[0] += RELOAD_S
    co_likes.read(world.conn)
    second = co_likes.graph
    assert second is not None
    assert second is not first
    assert second.size == 3
    # More than a quarter above the bound.
    for _ in range(8):
        world.like(OTHER, world.post(ANNA), minutes_ago=-362)
    for _ in range(2):
        moment[0] += 60
        co_likes.read(world.conn)
    assert co_likes.graph is not second


def test_stopped_load_leaves_no_likes(world: World, pool: Pool) -> None:
    shared(world)
    world.conn.commit()
    co_likes = CoLikes(PARAMETERS, clock=NOW.timestamp)
    with pytest.raises(LoadStoppedError):
        load_graph(world.conn, int(NOW.timestamp()), PARAMETERS, lambda: True)
    co_likes.stop()
    assert co_likes.refresh(pool) is False
    assert co_likes.graph is None


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
