"""Statistics of feeds by hour: readers, pages, empty pages, latency, interactions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from storage.postgres.pool import Conn
from storage.private.feeds.reader_sketch import ReaderSketch

KEPT: Final = timedelta(days=90)
LATENCY_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
"""Upper bounds of the classes of latency; one more class is above all."""
FAILED: Final = "bigworld.feed.defs#failed"
"""A page that was not served, since the algorithm of the feed failed."""
EVENTS: Final = (
    "app.bsky.feed.defs#requestLess",
    "app.bsky.feed.defs#requestMore",
    "app.bsky.feed.defs#clickthroughItem",
    "app.bsky.feed.defs#clickthroughAuthor",
    "app.bsky.feed.defs#clickthroughReposter",
    "app.bsky.feed.defs#clickthroughEmbed",
    "app.bsky.feed.defs#interactionSeen",
    "app.bsky.feed.defs#interactionLike",
    "app.bsky.feed.defs#interactionRepost",
    "app.bsky.feed.defs#interactionReply",
    "app.bsky.feed.defs#interactionQuote",
    "app.bsky.feed.defs#interactionShare",
    FAILED,
)
"""Known events. Their order is stored: new ones come last."""
INTERACTIONS: Final = frozenset(EVENTS) - {FAILED}
"""Events that clients send."""


@dataclass(slots=True)
class FeedHour:
    """The counts of a feed, named by AT-URI, in an hour or in several."""

    feed: str
    hour: datetime
    pages: int = 0
    empty_pages: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_MS) + 1))
    events: list[int] = field(default_factory=lambda: [0] * len(EVENTS))
    readers: ReaderSketch = field(default_factory=ReaderSketch)

    def add(self, other: FeedHour) -> None:
        """Add other counts."""
        self.pages += other.pages
        self.empty_pages += other.empty_pages
        self.latency = _sums(self.latency, other.latency)
        self.events = _sums(self.events, other.events)
        self.readers.merge(other.readers)

    def latency_ms(self, share: float) -> int | None:
        """Return the bound that a share of the pages did not exceed.

        None: there were no pages. The highest bound also stands for all above.
        """
        total = sum(self.latency)
        if not total:
            return None
        seen = 0
        for bound, count in zip(LATENCY_MS, self.latency, strict=False):
            seen += count
            if seen >= share * total:
                return bound
        return LATENCY_MS[-1]


def _sums(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Return sums by place; a row of an earlier version may be shorter."""
    most = max(len(left), len(right))
    padded = ([*side, *[0] * (most - len(side))] for side in (left, right))
    return [a + b for a, b in zip(*padded, strict=True)]


def add_hours(conn: Conn, hours: Iterable[FeedHour]) -> None:
    """Add counts to the stored ones, in one statement each way."""
    counted = {(one.feed, one.hour): one for one in hours}
    if not counted:
        return
    # Sorted: processes that write at once lock rows in the same order.
    keys = sorted(counted)
    columns = [[feed for feed, _ in keys], [hour for _, hour in keys]]
    conn.execute(
        "INSERT INTO feed_hour (feed, hour)"
        " SELECT * FROM unnest(%s::text[], %s::timestamptz[])"
        " ON CONFLICT DO NOTHING",
        columns,
    )
    rows = conn.execute(
        """
        SELECT h.feed, h.hour, h.pages, h.empty_pages, h.latency, h.events, h.readers
        FROM feed_hour h JOIN unnest(%s::text[], %s::timestamptz[]) AS x (feed, hour)
          ON h.feed = x.feed AND h.hour = x.hour
        ORDER BY h.feed, h.hour FOR UPDATE OF h
        """,
        columns,
    ).fetchall()
    for row in rows:
        stored = _read(row)
        counted[stored.feed, stored.hour].add(stored)
    conn.cursor().executemany(
        "UPDATE feed_hour SET pages = %s, empty_pages = %s, latency = %s, events = %s,"
        " readers = %s WHERE feed = %s AND hour = %s",
        [
            (
                *(one.pages, one.empty_pages, one.latency, one.events),
                *(bytes(one.readers), one.feed, one.hour),
            )
            for one in (counted[key] for key in keys)
        ],
    )


def drop_old_hours(conn: Conn, now: datetime) -> int:
    """Remove hours older than KEPT; return their number."""
    return conn.execute("DELETE FROM feed_hour WHERE hour < %s", (now - KEPT,)).rowcount


def read_hours(
    conn: Conn, since: datetime, *, feed: str | None = None, limit: int = 10_000
) -> list[FeedHour]:
    """Return hours since a time, the newest first; of one feed if it is named."""
    named = "" if feed is None else "AND feed = %(feed)s"
    rows = conn.execute(
        f"""
        SELECT feed, hour, pages, empty_pages, latency, events, readers FROM feed_hour
        WHERE hour >= %(since)s {named} ORDER BY hour DESC, feed LIMIT %(limit)s
        """,
        {"since": since, "feed": feed, "limit": limit},
    )
    return [_read(row) for row in rows]


def read_hours_of(
    conn: Conn, since: datetime, feeds: Collection[str]
) -> list[FeedHour]:
    """Return hours of some feeds since a time."""
    rows = conn.execute(
        "SELECT feed, hour, pages, empty_pages, latency, events, readers FROM feed_hour"
        " WHERE feed = ANY(%s) AND hour >= %s",
        ([*feeds], since),
    )
    return [_read(row) for row in rows]


def total_by_feed(hours: Iterable[FeedHour]) -> list[FeedHour]:
    """Return the sums of each feed, the most read first."""
    totals: dict[str, FeedHour] = {}
    for one in hours:
        total = totals.setdefault(one.feed, FeedHour(one.feed, one.hour))
        total.add(one)
        total.hour = min(total.hour, one.hour)
    return sorted(totals.values(), key=lambda one: (-one.pages, one.feed))


def _read(row: Sequence[Any]) -> FeedHour:
    feed, hour, pages, empty_pages, latency, events, readers = row
    return FeedHour(
        feed, hour, pages, empty_pages, latency, events, ReaderSketch(readers)
    )
