"""Slots for repo fetches: a total, and a few of each host."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Slower fetches may be preempted.
_SLOW_BYTES_PER_S: Final = 128 * 1024


@dataclass(slots=True)
class _Fetch:
    """One fetch under way, with the bytes received so far."""

    host: int
    began: float
    received: int = 0
    preempted: bool = False


class FetchSlots:
    """`take` a slot of `free`, `note` received bytes, `leave`. Use on one loop.

    Fetches that take longer than `patience` seconds move to as many slots of their
    own, so that slow hosts do not delay others. Where these are full too, the slowest
    of them is preempted, unless it is just large.
    """

    def __init__(
        self,
        most: int,
        per_host: int,
        patience: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._per_host = per_host
        self._patience = patience
        self._clock = clock
        self._fetches: dict[int, _Fetch] = {}

    @property
    def busy_hosts(self) -> list[int]:
        """Return the hosts without a free slot."""
        taken = Counter(fetch.host for fetch in self._fetches.values())
        return [host for host, count in taken.items() if count >= self._per_host]

    def free(self) -> int:
        """Return the free slots, or 0 while they are few: claiming a repo for each slot
        would cost more than a small repo."""
        now = self._clock()
        slow = [f for f in self._fetches.values() if f.began < now - self._patience]
        free = self._most - len(self._fetches) + min(len(slow), self._most)
        if free >= max(1, self._most // 4):
            return free
        if slow and not any(fetch.preempted for fetch in slow):

            def rate(fetch: _Fetch) -> float:
                return fetch.received / (now - fetch.began)

            slowest = min(slow, key=rate)
            slowest.preempted = rate(slowest) < _SLOW_BYTES_PER_S
        return 0

    def take(self, actor: int, host: int) -> None:
        """Take a slot for a repo."""
        self._fetches[actor] = _Fetch(host, self._clock())

    def note(self, actor: int, size: int) -> bool:
        """Count received bytes; return True if the fetch is preempted."""
        fetch = self._fetches.get(actor)
        if fetch is None:
            return False
        fetch.received += size
        return fetch.preempted

    def leave(self, actor: int) -> bool:
        """Free the slot of a repo; return False if it had none."""
        return self._fetches.pop(actor, None) is not None
