"""Statistics of feeds in memory, by feed and hour, until they are written.

Readers are counted by a sketch of keyed hashes: nothing names a reader.
"""

from __future__ import annotations

import hmac
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from storage.private.feeds.feed_hours import EVENTS, FAILED, LATENCY_MS, FeedHour

MAX_HELD: Final = 5_000
"""Feeds and hours in memory; pages of further ones are not counted."""


class FeedCounters:
    """Counters of this process. Use it from any thread."""

    def __init__(
        self,
        secret: bytes = b"",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._secret = secret
        self._now = now
        self._lock = threading.Lock()
        self._held: dict[tuple[str, datetime], FeedHour] = {}

    def count_page(
        self, feed: str, reader: str | None, items: int, seconds: float
    ) -> None:
        """Count a served page; `reader` is the DID of a signed-in account."""
        mark = None
        if reader is not None:
            text = f"{feed} {reader}".encode()
            mark = int.from_bytes(
                hmac.digest(self._secret or b"-", text, "sha256")[:8], "big"
            )
        with self._lock:
            hour = self._hour(feed)
            if hour is None:
                return
            hour.pages += 1
            hour.empty_pages += items == 0
            hour.latency[bisect_left(LATENCY_MS, seconds * 1_000)] += 1
            if mark is not None:
                hour.readers.add(mark)

    def count_interactions(self, feed: str, events: Iterable[str]) -> None:
        """Count interactions with a feed by known event."""
        with self._lock:
            hour = self._hour(feed)
            if hour is None:
                return
            for event in events:
                hour.events[EVENTS.index(event)] += 1

    def count_failure(self, feed: str) -> None:
        """Count a page that was not served since the algorithm failed."""
        self.count_interactions(feed, [FAILED])

    def take(self) -> list[FeedHour]:
        """Return what was counted since the last call."""
        with self._lock:
            held, self._held = self._held, {}
        return [*held.values()]

    def put_back(self, hours: Iterable[FeedHour]) -> None:
        """Add counts that could not be written."""
        with self._lock:
            for hour in hours:
                key = (hour.feed, hour.hour)
                if key in self._held:
                    self._held[key].add(hour)
                elif len(self._held) < MAX_HELD:
                    self._held[key] = hour

    def _hour(self, feed: str) -> FeedHour | None:
        moment = self._now().replace(minute=0, second=0, microsecond=0)
        held = self._held.get((feed, moment))
        if held is None and len(self._held) < MAX_HELD:
            held = self._held[feed, moment] = FeedHour(feed, moment)
        return held
