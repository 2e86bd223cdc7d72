"""The pace at which one host's stream is read: events and bytes a second.

A host over its budget is read more slowly, and nothing is dropped. Frames over the
budget of their account count for a tenth, so that one account does not delay the others
of its host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from crawler.settings import CrawlSettings
from storage.hosts.host_rows import Host

# Seconds of its budget that a host may save up during a pause.
_SAVED_S: Final = 10.0
_LONGEST_S: Final = 1.0
_GIVEN_BACK: Final = 0.9
"""The share of a throttled event, which is neither verified nor written."""


class StreamBudget:
    """A budget in events and bytes a second; None for no limit."""

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
        self._throttled = 0

    def spend(self, size: int, throttled: int = 0) -> float:
        """Take one event of `size` bytes; return the seconds to rest, 1 at most.

        `throttled` counts the earlier events that were over the budget of their
        account.
        """
        if not self._limited:
            return 0.0
        now = self._clock()
        if throttled != self._throttled:
            fresh = max(0, throttled - self._throttled)
            self._spent[0] -= fresh * _GIVEN_BACK * self._costs[0]
            self._throttled = throttled
        rest = 0.0
        for kind, amount in enumerate((1, size)):
            spent = max(self._spent[kind], now - _SAVED_S) + amount * self._costs[kind]
            self._spent[kind] = spent
            rest = max(rest, spent - now)
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
