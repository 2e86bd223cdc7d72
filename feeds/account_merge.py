"""Posts and reposts of many accounts as one list, newest first.

Each account is two streams, its posts and its reposts. The first entries of the list
are in the streams whose newest entries are the latest ones: only those are read beyond
one entry. A page costs one index lookup a stream, however much is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from feeds.skeleton import SkeletonEntry, SkeletonItem
from storage.collections import (
    COLLECTION_IDS,
    FEED_POST,
    FEED_REPOST,
    FOLLOW_SUBJECT,
    REPOST_SUBJECT,
)
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import partition_of

_END: Final = 253_402_300_799_000_000
_POST: Final = COLLECTION_IDS[FEED_POST]
_REPOST: Final = COLLECTION_IDS[FEED_REPOST]
_KEYSET: Final = "(%(moment)s, %(actor)s, %(collection)s, %(rkey)s)"
MAX_FOLLOWS: Final = 10_000
"""Followed accounts read for one page; further ones are left out."""
FOLLOWED_REPLIES: Final = (
    "AND (p.parent_actor IS NULL OR p.parent_actor = ANY(%(accounts)s))"
)
"""Condition on posts: replies to the accounts of the list only."""
# Plain bounds of the time: PostgreSQL estimates them well, unlike a compared row, and
# so reads the index by account and time.
_POSTS: Final = f"""
    FROM post p
    WHERE p.actor = f.id AND p.sort_at <= %(moment)s
      AND NOT (p.sort_at, p.actor, %(post)s, p.rkey) >= {_KEYSET}
      {{condition}}
"""
_REPOSTS: Final = f"""
    FROM {partition_of(REPOST_SUBJECT)} r
    WHERE r.actor = f.id AND r.path = %(reposted)s AND r.target_collection = %(post)s
      AND r.sort_at <= %(moment)s
      AND NOT (r.sort_at, r.actor, %(repost)s, r.rkey) >= {_KEYSET}
"""
_NEWEST_REPOSTS: Final = f"""
    UNION ALL
    SELECT f.id, %(repost)s, n.sort_at FROM unnest(%(accounts)s::int4[]) AS f (id)
    CROSS JOIN LATERAL (
        SELECT r.sort_at {_REPOSTS} ORDER BY r.sort_at DESC LIMIT 1) n
"""
_REPOST_ENTRIES: Final = f"""
    UNION ALL
    SELECT e.* FROM newest f CROSS JOIN bound CROSS JOIN LATERAL (
        SELECT r.sort_at, r.actor, %(repost)s AS collection, r.rkey,
               r.target_actor AS post_actor, r.target_rkey AS post_rkey
        {_REPOSTS} AND f.kind = %(repost)s AND r.sort_at >= bound.sort_at
        ORDER BY r.sort_at DESC, r.rkey DESC LIMIT %(limit)s) e
"""


def followed_accounts(conn: Conn, viewer: int) -> list[int]:
    """Return the accounts that an account follows."""
    rows = conn.execute(
        f"SELECT target_actor FROM {partition_of(FOLLOW_SUBJECT)}"
        " WHERE actor = %s AND path = %s ORDER BY target_actor DESC LIMIT %s",
        (viewer, FOLLOW_SUBJECT, MAX_FOLLOWS),
    )
    return [row[0] for row in rows]


def merge_accounts(
    conn: Conn,
    accounts: Sequence[int],
    after: Sequence[Any] | None,
    limit: int,
    *,
    reposts: bool = True,
    condition: str = "",
) -> list[SkeletonEntry]:
    """Return entries by keyset on (time, account, collection, record key).

    `condition` is an SQL condition on posts `p`.
    """
    at, actor, collection, rkey = after or (_END, 0, 0, 0)
    posts = _POSTS.format(condition=condition)
    rows = conn.execute(
        f"""
        WITH newest AS MATERIALIZED (
            SELECT f.id, %(post)s AS kind, n.sort_at
            FROM unnest(%(accounts)s::int4[]) AS f (id)
            CROSS JOIN LATERAL (
                SELECT p.sort_at {posts} ORDER BY p.sort_at DESC LIMIT 1) n
            {_NEWEST_REPOSTS if reposts else ""}
            ORDER BY sort_at DESC, id DESC, kind DESC LIMIT %(limit)s
        ), bound AS MATERIALIZED (
            SELECT CASE WHEN count(*) < %(limit)s THEN '-infinity'
                   ELSE min(sort_at) END AS sort_at
            FROM newest
        )
        SELECT {micros_sql("sort_at")}, actor, collection, rkey, post_actor, post_rkey
        FROM (
            SELECT e.* FROM newest f CROSS JOIN bound CROSS JOIN LATERAL (
                SELECT p.sort_at, p.actor, %(post)s AS collection, p.rkey,
                       p.actor AS post_actor, p.rkey AS post_rkey
                {posts} AND f.kind = %(post)s AND p.sort_at >= bound.sort_at
                ORDER BY p.sort_at DESC, p.rkey DESC LIMIT %(limit)s) e
            {_REPOST_ENTRIES if reposts else ""}
        ) entries
        ORDER BY sort_at DESC, actor DESC, collection DESC, rkey DESC LIMIT %(limit)s
        """,
        {
            "accounts": [*accounts],
            "post": _POST,
            "repost": _REPOST,
            "reposted": REPOST_SUBJECT,
            "limit": limit,
            "moment": from_micros(at),
            "actor": actor,
            "collection": collection,
            "rkey": rkey,
        },
    )
    return [
        SkeletonEntry(
            SkeletonItem(
                Address(post_actor, _POST, post_rkey),
                Address(by, _REPOST, key) if kind == _REPOST else None,
            ),
            [micros, by, kind, key],
        )
        for micros, by, kind, key, post_actor, post_rkey in rows
    ]
