"""The merge of many accounts: the order of one sorted list, at a bounded cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from feeds.account_merge import FOLLOWED_REPLIES, followed_accounts, merge_accounts
from feeds.skeleton import SkeletonItem
from storage.collections import (
    COLLECTION_IDS,
    FEED_GENERATOR,
    FEED_POST,
    FEED_REPOST,
    FOLLOW_SUBJECT,
    LIKE_SUBJECT,
    REPOST_SUBJECT,
)
from storage.postgres.pool import Conn
from storage.records.addresses import Address

POST = COLLECTION_IDS[FEED_POST]
REPOST = COLLECTION_IDS[FEED_REPOST]
START = datetime(2026, 11, 1, tzinfo=UTC)
Row = tuple[datetime, int, int, int]


def add_post(conn: Conn, actor: int, rkey: int, at: datetime, parent: int = 0) -> Row:
    conn.execute(
        "INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at, parent_actor)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (actor, rkey, at, at, at, parent or None),
    )
    return (at, actor, POST, rkey)


def add_link(
    conn: Conn, path: int, actor: int, rkey: int, at: datetime, target: Address
) -> None:
    conn.execute(
        "INSERT INTO link (path, actor, rkey, target_actor, target_collection,"
        " target_rkey, sort_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (path, actor, rkey, *target, at),
    )


def fill(conn: Conn, random: Random, accounts: int) -> list[Row]:
    """Write streams of unequal length with few distinct times."""
    rows = []
    for actor in range(1, accounts + 1):
        for number in range(random.choice((0, 1, 1, 2, 9))):
            at = START + timedelta(seconds=random.randint(0, 12))
            rkey = random.choice((-1, 1)) * (1000 + number)
            rows.append(add_post(conn, actor, rkey, at))
        for number in range(random.choice((0, 0, 1, 4))):
            at = START + timedelta(seconds=random.randint(0, 12))
            target = Address(random.randint(1, 99), POST, number)
            add_link(conn, REPOST_SUBJECT, actor, number, at, target)
            rows.append((at, actor, REPOST, number))
    return rows


def read_all(
    conn: Conn, accounts: list[int], limit: int, *, reposts: bool
) -> list[SkeletonItem]:
    items: list[SkeletonItem] = []
    after = None
    for _ in range(1_000):
        page = merge_accounts(conn, accounts, after, limit, reposts=reposts)
        items += [entry.item for entry in page]
        if len(page) < limit:
            return items
        after = page[-1].keyset
    raise AssertionError("the list does not end")


def key_of(item: SkeletonItem) -> tuple[int, int, int]:
    actor, collection, rkey = item.repost or item.post
    return (actor, collection, rkey)


@pytest.mark.parametrize("seed", range(6))
def test_merge_is_one_sorted_list(conn: Conn, seed: int) -> None:
    random = Random(seed)
    rows = fill(conn, random, accounts=14)
    accounts = random.sample(range(1, 15), 11)
    for reposts in (True, False):
        chosen = [
            row for row in rows if row[1] in accounts and (reposts or row[2] == POST)
        ]
        expected = [row[1:] for row in sorted(chosen, reverse=True)]
        for limit in (1, 2, 3, 7, 500):
            found = read_all(conn, accounts, limit, reposts=reposts)
            assert [key_of(item) for item in found] == expected


def test_merge_reads_one_entry_of_most_streams(conn: Conn) -> None:
    conn.execute(
        """
        INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at)
        SELECT 1 + n % 200, n, t, t, t FROM generate_series(1, 20000) AS n
        CROSS JOIN LATERAL (SELECT now() - n * interval '1 minute' AS t) AS times
        """
    )
    conn.execute("ANALYZE post")

    def rows_read() -> int:
        row = conn.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE relname = 'post'"
        ).fetchone()
        assert row is not None
        return int(row[0])

    after = None
    for _ in range(3):
        before = rows_read()
        page = merge_accounts(conn, range(1, 201), after, 20)
        assert [e.item.post.rkey for e in page] == list(
            range(after[3] + 1 if after else 1, after[3] + 21 if after else 21)
        )
        # One entry a stream, then those of the page.
        assert rows_read() - before <= 200 + 2 * 20 + 20
        after = page[-1].keyset


def test_merge_takes_posts_only_and_a_condition(conn: Conn) -> None:
    add_post(conn, 1, 10, START)
    add_post(conn, 1, 11, START, parent=2)
    add_post(conn, 1, 12, START, parent=3)
    feed = Address(3, COLLECTION_IDS[FEED_GENERATOR], 1)
    add_link(conn, REPOST_SUBJECT, 1, 13, START, feed)
    add_link(conn, LIKE_SUBJECT, 1, 14, START, Address(3, POST, 1))

    def rkeys(condition: str) -> list[int]:
        page = merge_accounts(conn, [1, 2], None, 9, condition=condition)
        return [entry.item.post.rkey for entry in page]

    assert rkeys("") == [12, 11, 10]
    assert rkeys(FOLLOWED_REPLIES) == [11, 10]
    assert merge_accounts(conn, [], None, 9) == []


def test_followed_accounts_are_those_of_the_viewer(conn: Conn) -> None:
    for number, (follower, followed) in enumerate(((1, 2), (1, 3), (2, 1))):
        add_link(conn, FOLLOW_SUBJECT, follower, number, START, Address(followed, 0, 0))
    assert sorted(followed_accounts(conn, 1)) == [2, 3]
    assert followed_accounts(conn, 9) == []
