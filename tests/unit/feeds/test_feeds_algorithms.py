from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from feeds.algorithms import following, latest, popular
from feeds.skeleton import Algorithm, FeedRequest, SkeletonItem, ViewerRequiredError
from storage.collections import (
    COLLECTION_IDS,
    FEED_POST,
    FEED_REPOST,
    FOLLOW_SUBJECT,
    REPOST_SUBJECT,
)
from storage.postgres.pool import Conn
from storage.records.addresses import Address

POST = COLLECTION_IDS[FEED_POST]
REPOST = COLLECTION_IDS[FEED_REPOST]
NOW = datetime.now(UTC).replace(microsecond=0)
VIEWER, ANNA, BERT, CARL = 1, 2, 3, 4


def tid_number(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000) << 10


def add_post(
    conn: Conn,
    actor: int,
    minutes_ago: float,
    *,
    parent: Address | None = None,
    likes: int = 0,
) -> Address:
    at = NOW - timedelta(minutes=minutes_ago)
    address = Address(actor, POST, tid_number(at))
    above = (parent.actor, parent.rkey) if parent else (None, None)
    conn.execute(
        """
        INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at,
                          parent_actor, parent_rkey, root_actor, root_rkey)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (actor, address.rkey, at, at, at, *above, *above),
    )
    if likes:
        conn.execute(
            "INSERT INTO post_stats (actor, rkey, likes) VALUES (%s, %s, %s)",
            (actor, address.rkey, likes),
        )
    return address


def add_post_at(conn: Conn, actor: int, at: datetime, rkey: int) -> Address:
    conn.execute(
        "INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at)"
        " VALUES (%s, %s, %s, %s, %s)",
        (actor, rkey, at, at, at),
    )
    return Address(actor, POST, rkey)


def add_link(
    conn: Conn, path: int, actor: int, minutes_ago: float, target: Address
) -> int:
    rkey = tid_number(NOW - timedelta(minutes=minutes_ago))
    conn.execute(
        "INSERT INTO link (path, actor, rkey, target_actor, target_collection, "
        "target_rkey, sort_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (path, actor, rkey, *target, NOW - timedelta(minutes=minutes_ago)),
    )
    return rkey


def read_all(
    conn: Conn, feed: Algorithm, *, limit: int, viewer: int | None = VIEWER
) -> list[SkeletonItem]:
    items: list[SkeletonItem] = []
    after = None
    for _ in range(50):
        entries = feed.build(conn, FeedRequest(viewer, limit, after))
        items += [entry.item for entry in entries]
        if len(entries) < limit:
            return items
        after = entries[-1].keyset
    raise AssertionError("the feed does not end")


def posts(items: list[SkeletonItem]) -> list[Address]:
    return [item.post for item in items]


def test_latest_leaves_replies_out_and_pages_without_gap(conn: Conn) -> None:
    first = add_post(conn, ANNA, 30)
    add_post(conn, BERT, 20, parent=first)
    # Three posts at the same time: a page edge must not lose one.
    same = [add_post(conn, actor, 10) for actor in (ANNA, BERT, CARL)]
    newest = add_post(conn, CARL, 1)
    expected = [newest, *reversed(same), first]
    for limit in (1, 2, 3, 10):
        assert posts(read_all(conn, latest.FEED, limit=limit)) == expected


def test_popular_fades_with_age_and_needs_a_reaction(conn: Conn) -> None:
    old_star = add_post(conn, ANNA, 60 * 48, likes=40)
    young = add_post(conn, BERT, 5, likes=4)
    add_post(conn, CARL, 1)
    other = add_post(conn, CARL, 5, likes=1)
    for limit in (1, 2, 10):
        assert posts(read_all(conn, popular.FEED, limit=limit)) == [
            young,
            other,
            old_star,
        ]


def test_popular_holds_its_places_while_somebody_pages(conn: Conn) -> None:
    expected = [add_post(conn, ANNA, 5 + i, likes=20 - i) for i in range(6)]
    first = popular.build(conn, FeedRequest(None, 3))
    add_post(conn, BERT, -1, likes=1000)
    second = popular.build(conn, FeedRequest(None, 10, first[-1].keyset))
    assert [entry.item.post for entry in [*first, *second]] == expected


def test_following_shows_posts_and_reposts_of_followed_accounts(conn: Conn) -> None:
    for followed in (ANNA, BERT):
        add_link(conn, FOLLOW_SUBJECT, VIEWER, 500, Address(followed, 0, 0))
    stranger = add_post(conn, CARL, 100)
    own = add_post(conn, ANNA, 90)
    to_friend = add_post(conn, BERT, 80, parent=own)
    add_post(conn, BERT, 70, parent=stranger)
    repost = add_link(conn, REPOST_SUBJECT, ANNA, 60, stranger)
    for limit in (1, 2, 10):
        assert read_all(conn, following.FEED, limit=limit) == [
            SkeletonItem(stranger, Address(ANNA, REPOST, repost)),
            SkeletonItem(to_friend),
            SkeletonItem(own),
        ]


@pytest.mark.parametrize("feed", [latest.FEED, following.FEED])
def test_feed_pages_hold_equal_times_of_any_year(conn: Conn, feed: Algorithm) -> None:
    add_link(conn, FOLLOW_SUBJECT, VIEWER, 500, Address(ANNA, 0, 0))
    made = [
        add_post_at(conn, ANNA, datetime(year, 12, 31, 23, 59, 59, 123_457, UTC), rkey)
        for year in (2148, 1969, 1683, 1066)
        for rkey in range(year * 10 + 6, year * 10, -1)
    ]
    for limit in (1, 4, 30):
        assert posts(read_all(conn, feed, limit=limit)) == made


def test_following_needs_a_viewer(conn: Conn) -> None:
    with pytest.raises(ViewerRequiredError):
        following.build(conn, FeedRequest(None, 10))


def test_following_nobody_is_empty(conn: Conn) -> None:
    add_post(conn, ANNA, 1)
    assert read_all(conn, following.FEED, limit=5) == []
