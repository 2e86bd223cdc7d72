"""The pace at which one host's stream is read: events and bytes a second.

A host over its budget is read more slowly, and nothing is dropped. Frames over the
budget of their account count for a tenth, so that one account does not delay the
others of its host.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from crawler.settings import CrawlSettings
from network.http.budget import TokenBucket
from storage.hosts.host_rows import Host

# Seconds of its budget that a host may save up during a pause.
_SAVED_S: Final = 10.0
_LONGEST_S: Final = 1.0
# Throttled events are neither verified nor written, and cost a tenth.
_POINTS: Final = 10


class StreamBudget:
    """A budget in events and bytes a second; None for no limit."""

    def __init__(
        self,
        events_per_s: float | None,
        bytes_per_s: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        def bucket(rate: float | None) -> TokenBucket | None:
            if not rate:
                return None
            return TokenBucket(rate, max(1, int(rate * _SAVED_S)), clock)

        self._events = bucket(events_per_s and events_per_s * _POINTS)
        self._bytes = bucket(bytes_per_s)
        self._throttled = 0

    def spend(self, size: int, throttled: int = 0) -> float:
        """Take one event of `size` bytes; return the seconds to rest, 1 at most.

        `throttled` counts the earlier events that were over the budget of their
        account.
        """
        rest = 0.0
        if self._events is not None:
            fresh = max(0, throttled - self._throttled)
            points = _POINTS - fresh * (_POINTS - 1)
            rest = self._events.reserve(math.inf, points) or 0.0
        self._throttled = throttled
        if self._bytes is not None:
            rest = max(rest, self._bytes.reserve(math.inf, size) or 0.0)
        return min(rest, _LONGEST_S)


def budget_of(host: Host, settings: CrawlSettings) -> StreamBudget:
    """Return the budget of a host's stream. Relays and configured hosts have one only
    if the operator set it."""
    if host.trusted or host.relay:
        return StreamBudget(host.events_per_s, host.bytes_per_s)
    return StreamBudget(
        host.events_per_s or settings.host_events_per_s,
        host.bytes_per_s or settings.host_bytes_per_s,
    )
