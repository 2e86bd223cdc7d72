"""How fast one host's stream is read: events and bytes a second.

A host over its budget is read more slowly, and nothing is dropped: what waits, waits
at the host, and when it loses patience the stream goes on from the saved cursor. So
one busy host cannot take the others' turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from crawler.settings import CrawlSettings
from storage.hosts import Host

# A host may save up so many seconds of its budget: after a pause it catches up.
_SAVED_S: Final = 10.0
_LONGEST_S: Final = 1.0


class StreamBudget:
    """Tells after each frame how long to rest. None: no limit."""

    def __init__(
        self,
        events_per_s: float | None,
        bytes_per_s: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._costs = (
            1.0 / events_per_s if events_per_s else 0.0,
            1.0 / bytes_per_s if bytes_per_s else 0.0,
        )
        self._limited = any(self._costs)
        self._clock = clock
        # The moments until which each of the two budgets is spent.
        self._spent = [float("-inf"), float("-inf")]

    def spend(self, size: int) -> float:
        """Take one event of `size` bytes; return the seconds to rest, 1 at most."""
        if not self._limited:
            return 0.0
        now = self._clock()
        rest = 0.0
        for kind, amount in enumerate((1, size)):
            spent = max(self._spent[kind], now - _SAVED_S) + amount * self._costs[kind]
            self._spent[kind] = spent
            rest = max(rest, spent - now)
        return min(rest, _LONGEST_S)


def budget_of(host: Host, settings: CrawlSettings) -> StreamBudget:
    """The budget of a host's stream. Relays and our operator's own hosts have one
    only if he set it."""
    if host.trusted or host.relay:
        return StreamBudget(host.events_per_s, host.bytes_per_s)
    return StreamBudget(
        host.events_per_s or settings.host_events_per_s,
        host.bytes_per_s or settings.host_bytes_per_s,
    )
