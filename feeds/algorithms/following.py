"""Posts and reposts of the accounts that the viewer follows, newest first.

Replies are left out unless the parent's author is followed too.
"""

from __future__ import annotations

from feeds.skeleton import (
    Algorithm,
    FeedRequest,
    SkeletonEntry,
    SkeletonItem,
    ViewerRequiredError,
)
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

MAX_FOLLOWS = 10_000
"""Followed accounts read for one page, the latest first."""
_END = 253_402_300_799_000_000
_POST = COLLECTION_IDS[FEED_POST]
_REPOST = COLLECTION_IDS[FEED_REPOST]


def build(conn: Conn, request: FeedRequest) -> list[SkeletonEntry]:
    """Return entries by keyset on (time, actor, rkey, collection).

    Raises `ViewerRequiredError`.
    """
    if request.viewer is None:
        raise ViewerRequiredError("this feed needs a signed-in account")
    at, actor, rkey, collection = request.after or (_END, 0, 0, 0)
    rows = conn.execute(
        f"""
        WITH followed AS (
            SELECT target_actor AS id FROM link
            WHERE path = %(follow)s AND actor = %(viewer)s
            ORDER BY sort_at DESC, rkey DESC LIMIT %(follows)s
        )
        SELECT micros, actor, rkey, collection, post_actor, post_rkey FROM (
            SELECT p.* FROM followed f CROSS JOIN LATERAL (
                SELECT {micros_sql("sort_at")} AS micros, actor, rkey,
                       %(post)s AS collection, actor AS post_actor, rkey AS post_rkey
                FROM post
                WHERE actor = f.id
                  AND (sort_at, actor, rkey, %(post)s)
                      < (%(moment)s, %(actor)s, %(rkey)s, %(collection)s)
                  AND (parent_actor IS NULL
                       OR parent_actor IN (SELECT id FROM followed))
                ORDER BY sort_at DESC, rkey DESC LIMIT %(limit)s
            ) p
            UNION ALL
            SELECT r.* FROM followed f CROSS JOIN LATERAL (
                SELECT {micros_sql("sort_at")} AS micros, actor, rkey,
                       %(repost)s AS collection,
                       target_actor AS post_actor, target_rkey AS post_rkey
                FROM link
                WHERE path = %(reposted)s AND actor = f.id
                  AND target_collection = %(post)s
                  AND (sort_at, actor, rkey, %(repost)s)
                      < (%(moment)s, %(actor)s, %(rkey)s, %(collection)s)
                ORDER BY sort_at DESC, rkey DESC LIMIT %(limit)s
            ) r
        ) entries
        ORDER BY micros DESC, actor DESC, rkey DESC, collection DESC LIMIT %(limit)s
        """,
        {
            "follow": FOLLOW_SUBJECT,
            "reposted": REPOST_SUBJECT,
            "post": _POST,
            "repost": _REPOST,
            "viewer": request.viewer,
            "follows": MAX_FOLLOWS,
            "limit": request.limit,
            "moment": from_micros(at),
            "actor": actor,
            "rkey": rkey,
            "collection": collection,
        },
    )
    return [
        SkeletonEntry(
            SkeletonItem(
                Address(post_actor, _POST, post_rkey),
                Address(by, _REPOST, key) if kind == _REPOST else None,
            ),
            [micros, by, key, kind],
        )
        for micros, by, key, kind, post_actor, post_rkey in rows
    ]


FEED = Algorithm(
    name="following",
    display_name="Following",
    description="Posts and reposts of the accounts you follow, newest first.",
    build=build,
    personal=True,
)
