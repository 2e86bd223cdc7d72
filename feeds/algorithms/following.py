"""Posts and reposts of the accounts that the viewer follows, newest first.

Replies are left out unless they answer somebody whom the viewer follows too.
"""

from __future__ import annotations

from typing import Any

import psycopg

from feeds.skeleton import (
    Algorithm,
    FeedRequest,
    Skeleton,
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
from storage.documents import Address

MAX_FOLLOWS = 10_000
"""Accounts read for one page; the most recently followed come first."""
_POST = COLLECTION_IDS[FEED_POST]
_REPOST = COLLECTION_IDS[FEED_REPOST]


def build(conn: psycopg.Connection[Any], request: FeedRequest) -> Skeleton:
    """One page by keyset on (time, actor, rkey). Raises `ViewerRequiredError`.

    A repost stands at the time in its record key, a TID.
    """
    if request.viewer is None:
        raise ViewerRequiredError("this feed needs a signed-in account")
    at, actor, rkey = request.after or (2**62, 0, 0)
    rows = conn.execute(
        """
        WITH followed AS (
            SELECT target_actor AS id FROM link
            WHERE path = %(follow)s AND actor = %(viewer)s
            ORDER BY rkey DESC LIMIT %(follows)s
        )
        SELECT micros, actor, rkey, post_actor, post_rkey FROM (
            SELECT p.* FROM followed f CROSS JOIN LATERAL (
                SELECT round(extract(epoch FROM sort_at) * 1000000)::int8 AS micros,
                       actor, rkey, actor AS post_actor, rkey AS post_rkey
                FROM post
                WHERE actor = f.id AND sort_at <= to_timestamp(%(at)s / 1e6)
                  AND (parent_actor IS NULL
                       OR parent_actor IN (SELECT id FROM followed))
                ORDER BY sort_at DESC LIMIT %(limit)s
            ) p
            UNION ALL
            SELECT r.* FROM followed f CROSS JOIN LATERAL (
                SELECT rkey >> 10 AS micros, actor, rkey,
                       target_actor AS post_actor, target_rkey AS post_rkey
                FROM link
                WHERE path = %(repost)s AND actor = f.id
                  AND rkey BETWEEN 0 AND %(rkey_bound)s
                  AND target_collection = %(post)s
                ORDER BY rkey DESC LIMIT %(limit)s
            ) r
        ) entries
        WHERE (micros, actor, rkey) < (%(at)s, %(actor)s, %(rkey)s)
        ORDER BY micros DESC, actor DESC, rkey DESC LIMIT %(limit)s
        """,
        {
            "follow": FOLLOW_SUBJECT,
            "repost": REPOST_SUBJECT,
            "post": _POST,
            "viewer": request.viewer,
            "follows": MAX_FOLLOWS,
            # One more than a page, so that the end is known; entries of the cursor's
            # own microsecond are read again and left out by the keyset.
            "limit": request.limit + 1,
            "at": min(at, 253_402_300_799_000_000),
            "actor": actor,
            "rkey": rkey,
            "rkey_bound": min((at << 10) | 1023, 2**63 - 1),
        },
    ).fetchall()
    page = rows[: request.limit]
    items = [
        SkeletonItem(
            Address(post_actor, _POST, post_rkey),
            None if (by, key) == (post_actor, post_rkey) else Address(by, _REPOST, key),
        )
        for _, by, key, post_actor, post_rkey in page
    ]
    if len(rows) <= request.limit:
        return Skeleton(items, None)
    return Skeleton(items, list(page[-1][:3]))


FEED = Algorithm(
    name="following",
    display_name="Following",
    description="Posts and reposts of the accounts you follow, newest first.",
    build=build,
    personal=True,
)
