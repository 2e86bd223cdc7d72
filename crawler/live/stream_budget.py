"""How fast one host's stream is read: events and bytes a second.

A host over its budget is read more slowly, and nothing is dropped: what waits, waits
at the host, and when it loses patience the stream goes on from the saved cursor. So
one busy host cannot take the others' turn. Events that were passed over, because their
account alone writes too many, count for a tenth: else one account would keep all others
of its host waiting there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from crawler.settings import CrawlSettings
from storage.hosts.host_rows import Host

# A host may save up so many seconds of its budget: after a pause it catches up.
_SAVED_S: Final = 10.0
_LONGEST_S: Final = 1.0
_GIVEN_BACK: Final = 0.9
"""Of an event that was passed over. It is read and decoded, not proven and not
written."""


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
        self._passed_over = 0

    def spend(self, size: int, passed_over: int = 0) -> float:
        """Take one event of `size` bytes; return the seconds to rest, 1 at most.
        `passed_over` is the number of those before, of this connection, that were."""
        if not self._limited:
            return 0.0
        now = self._clock()
        if passed_over != self._passed_over:
            fresh = max(0, passed_over - self._passed_over)
            self._spent[0] -= fresh * _GIVEN_BACK * self._costs[0]
            self._passed_over = passed_over
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
