"""Popular posts: reactions weighed against age.

score = (likes + 2 reposts + replies + 2 quotes) / (hours + 2) ** 1.5. The newest
`CANDIDATES` posts compete, so the cost does not grow with the network.
"""

from __future__ import annotations

from datetime import UTC, datetime

from feeds.skeleton import Algorithm, FeedRequest, SkeletonEntry, SkeletonItem
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.instants import from_micros, to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address

CANDIDATES = 5_000
_BEST = 2**62
_POST = COLLECTION_IDS[FEED_POST]


def build(conn: Conn, request: FeedRequest) -> list[SkeletonEntry]:
    """Return entries scored at the time of the first page, so that places hold."""
    after = request.after
    frozen = from_micros(after[3]) if after else datetime.now(UTC)
    # float8 throughout: untyped numbers are numeric, and ten times slower. OFFSET keeps
    # PostgreSQL from reading the counts of all posts for a hash join.
    keyset = "WHERE (score, actor, rkey) < (%s, %s, %s)" if after else ""
    rows = conn.execute(
        f"""
        SELECT actor, rkey, score FROM (
            SELECT p.actor, p.rkey,
                   round(1e6::float8
                     * (s.likes + 2 * s.reposts + s.replies + 2 * s.quotes)
                     / power(extract(epoch FROM %s - p.sort_at)::float8 / 3600 + 2,
                             1.5))::int8 AS score
            FROM (
                SELECT actor, rkey, sort_at FROM post
                WHERE sort_at <= %s
                ORDER BY sort_at DESC, actor DESC, rkey DESC LIMIT %s
            ) p CROSS JOIN LATERAL (
                SELECT * FROM post_stats s
                WHERE s.actor = p.actor AND s.rkey = p.rkey OFFSET 0
            ) s
            WHERE s.likes + s.reposts + s.replies + s.quotes > 0
        ) scored {keyset}
        ORDER BY score DESC, actor DESC, rkey DESC LIMIT %s
        """,
        [frozen, frozen, CANDIDATES, *(after[:3] if after else ()), request.limit],
    )
    return [
        SkeletonEntry(
            SkeletonItem(Address(actor, _POST, rkey)),
            [score, actor, rkey, to_micros(frozen)],
        )
        for actor, rkey, score in rows
    ]


def posts_at(conn: Conn, until: int, limit: int) -> list[Address]:
    """Return popular posts as of a time in microseconds since 1970."""
    entries = build(conn, FeedRequest(None, limit, [_BEST, 0, 0, until]))
    return [entry.item.post for entry in entries]


FEED = Algorithm(
    name="popular",
    display_name="Popular",
    description="What people like, repost and answer right now, fading with age.",
    build=build,
)
