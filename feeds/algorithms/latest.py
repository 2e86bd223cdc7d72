"""All posts that are no replies, newest first."""

from __future__ import annotations

from typing import Any

from feeds.skeleton import Algorithm, FeedRequest, SkeletonEntry, SkeletonItem
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.instants import from_micros, to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address

_POST = COLLECTION_IDS[FEED_POST]


def build(conn: Conn, request: FeedRequest) -> list[SkeletonEntry]:
    """Return entries by keyset on (sort_at, actor, rkey)."""
    keyset, values = "", list[Any]()
    if request.after is not None:
        at, actor, rkey = request.after
        keyset = "AND (sort_at, actor, rkey) < (%s, %s, %s)"
        values = [from_micros(at), actor, rkey]
    rows = conn.execute(
        f"""
        SELECT actor, rkey, sort_at FROM post
        WHERE parent_rkey IS NULL {keyset}
        ORDER BY sort_at DESC, actor DESC, rkey DESC LIMIT %s
        """,
        [*values, request.limit],
    )
    return [
        SkeletonEntry(
            SkeletonItem(Address(actor, _POST, rkey)), [to_micros(at), actor, rkey]
        )
        for actor, rkey, at in rows
    ]


FEED = Algorithm(
    name="latest",
    display_name="Latest",
    description="Every new post of the network as it arrives, replies left out.",
    build=build,
)
