"""Popular posts: reactions weighed against age.

score = (likes + 2 reposts + replies + 2 quotes) / (hours + 2) ** 1.5. The newest
`CANDIDATES` posts compete, so the cost does not grow with the network. They are ranked
once for all readers of a frozen moment.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from datetime import UTC, datetime

from feeds.skeleton import Algorithm, FeedRequest, SkeletonEntry, SkeletonItem
from feeds.snapshots import Held, Moments
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.instants import from_micros, to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address

CANDIDATES = 5_000
_MAX_HELD = 150_000
"""Places of all rankings in memory."""
_NAME = "popular"
_BEST = 2**62
_POST = COLLECTION_IDS[FEED_POST]

Place = tuple[int, int, int]
"""Score, account and record key, each negated: the best place is the first."""


class PopularFeed:
    """The feed with the rankings of the last moments."""

    def __init__(self, rankings: Held[list[Place]], moments: Moments) -> None:
        self._rankings = rankings
        self._moments = moments

    def build(self, conn: Conn, request: FeedRequest) -> list[SkeletonEntry]:
        """Return entries scored at the time of the first page, so that places hold."""
        after = request.after
        if after:
            frozen = after[3]
        else:
            now = to_micros(request.now or datetime.now(UTC))
            frozen = now if request.now else self._moments.freeze(_NAME, now)
        key = (_NAME, frozen)
        places = self._rankings.get(key, lambda: rank_posts(conn, frozen))
        if not after and not request.now:
            self._moments.settle(_NAME, frozen)
        # Sorted downward: the first place below the keyset.
        begin = bisect_right(places, (-after[0], -after[1], -after[2])) if after else 0
        return [
            SkeletonEntry(
                SkeletonItem(Address(-actor, _POST, -rkey)),
                [-score, -actor, -rkey, frozen],
            )
            for score, actor, rkey in places[begin : begin + request.limit]
        ]


def build(conn: Conn, request: FeedRequest) -> list[SkeletonEntry]:
    """Return entries without rankings in memory."""
    return PopularFeed(Held(0), Moments()).build(conn, request)


def rank_posts(conn: Conn, frozen: int) -> list[Place]:
    """Return the places of a moment, in microseconds since 1970."""
    moment = from_micros(frozen)
    # float8 throughout: untyped numbers are numeric, and ten times slower. OFFSET keeps
    # PostgreSQL from reading the counts of all posts for a hash join.
    rows = conn.execute(
        """
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
        ) scored
        """,
        [moment, moment, CANDIDATES],
    )
    return sorted((-score, -actor, -rkey) for actor, rkey, score in rows)


def posts_at(conn: Conn, until: int, limit: int) -> list[Address]:
    """Return popular posts as of a time in microseconds since 1970."""
    entries = build(conn, FeedRequest(None, limit, [_BEST, 0, 0, until]))
    return [entry.item.post for entry in entries]


FEED = Algorithm(
    name=_NAME,
    display_name="Popular",
    description="What people like, repost and answer right now, fading with age.",
    build=build,
)


def held_feed() -> Algorithm:
    """Return the feed as a provider serves it, with its rankings in memory."""
    return replace(FEED, build=PopularFeed(Held(_MAX_HELD), Moments()).build)
