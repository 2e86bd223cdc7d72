"""Everything new: posts that answer nobody, newest first."""

from __future__ import annotations

from typing import Any

import psycopg

from feeds.skeleton import (
    Algorithm,
    FeedRequest,
    Skeleton,
    SkeletonItem,
    micros,
    moment,
)
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.documents import Address

_POST = COLLECTION_IDS[FEED_POST]


def build(conn: psycopg.Connection[Any], request: FeedRequest) -> Skeleton:
    """One page by keyset on (sort_at, actor, rkey)."""
    keyset, values = "", list[Any]()
    if request.after is not None:
        at, actor, rkey = request.after
        keyset = "AND (sort_at, actor, rkey) < (%s, %s, %s)"
        values = [moment(at), actor, rkey]
    rows = conn.execute(
        f"""
        SELECT actor, rkey, sort_at FROM post
        WHERE parent_rkey IS NULL {keyset}
        ORDER BY sort_at DESC, actor DESC, rkey DESC LIMIT %s
        """,
        [*values, request.limit + 1],
    ).fetchall()
    page = rows[: request.limit]
    items = [SkeletonItem(Address(actor, _POST, rkey)) for actor, rkey, _ in page]
    if len(rows) <= request.limit:
        return Skeleton(items, None)
    actor, rkey, at = page[-1]
    return Skeleton(items, [micros(at), actor, rkey])


FEED = Algorithm(
    name="latest",
    display_name="Latest",
    description="Every new post of the network as it arrives, replies left out.",
    build=build,
)
