"""Places for repos that are being fetched: so many, and few of each host."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# A fetch that brings no more than this may be given up for others.
_SLOW_BYTES_PER_S: Final = 128 * 1024


@dataclass(slots=True)
class _Fetch:
    """Of which host, since when, how many bytes came, and whether it is to end."""

    host: int
    began: float
    received: int = 0
    gives_way: bool = False


class FetchPlaces:
    """`free`, `take`, `note` what comes, `leave`. Use on one loop.

    Fetches that take longer than `patience` seconds have places of their own, as many
    again: a few hosts that drip must not have all others wait. Where these are not
    enough, the slowest of them is to give way, unless it is just large.
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
        """Hosts of which no more may be fetched now."""
        taken = Counter(fetch.host for fetch in self._fetches.values())
        return [host for host, count in taken.items() if count >= self._per_host]

    def free(self) -> int:
        """How many may be taken; 0 while it is but a few, for to claim repos for each
        place that comes free would cost more than a small repo."""
        now = self._clock()
        late = now - self._patience
        slow = [fetch for fetch in self._fetches.values() if fetch.began < late]
        free = self._most - len(self._fetches) + min(len(slow), self._most)
        if free >= max(1, self._most // 4):
            return free
        if slow and not any(fetch.gives_way for fetch in slow):

            def rate(fetch: _Fetch) -> float:
                return fetch.received / (now - fetch.began)

            slowest = min(slow, key=rate)
            slowest.gives_way = rate(slowest) < _SLOW_BYTES_PER_S
        return 0

    def take(self, actor: int, host: int) -> None:
        """Begin to fetch a repo."""
        self._fetches[actor] = _Fetch(host, self._clock())

    def note(self, actor: int, size: int) -> bool:
        """So many bytes of it came; whether it is to give way."""
        fetch = self._fetches.get(actor)
        if fetch is None:
            return False
        fetch.received += size
        return fetch.gives_way

    def leave(self, actor: int) -> bool:
        """Nothing of it is on its way any more; whether something was."""
        return self._fetches.pop(actor, None) is not None
