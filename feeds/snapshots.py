"""Short-lived rankings in memory: pages are slices of them.

Readers who begin within a few seconds share a frozen moment, and so its rankings.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sized
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

FROZEN_US: Final = 5_000_000
"""Readers who begin within this span share a moment."""
_PENDING_US: Final = 10_000_000
_STALE_US: Final = 60_000_000
_MAX_MOMENTS: Final = 10_000

T = TypeVar("T", bound=Sized)


class Held(Generic[T]):
    """Rankings by key, up to `most` entries of all; the longest unused leaves first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[Hashable, T] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def holds(self, key: Hashable) -> bool:
        """Return True if a ranking is in memory."""
        with self._lock:
            return key in self._held

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        """Return a ranking; build it if it is not held.

        Nobody waits for another reader, who may build the same: both hold a connection.
        """
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
                return found
        built = build()
        with self._lock:
            if key not in self._held:
                self._held[key] = built
                self._size += len(built) + 1
            while self._size > self._most:
                _, old = self._held.popitem(last=False)
                self._size -= len(old) + 1
            return self._held.get(key, built)


@dataclass(slots=True)
class _Moment:
    settled: int = 0
    pending: int = 0


class Moments:
    """Frozen moments of feeds, in microseconds.

    While the first reader builds the ranking of a new moment, others go on with the
    moment before.
    """

    def __init__(self) -> None:
        self._moments: OrderedDict[Hashable, _Moment] = OrderedDict()
        self._lock = threading.Lock()

    def freeze(self, feed: Hashable, now: int) -> int:
        """Return the moment at which a reader who begins now sees a feed."""
        with self._lock:
            known = self._moments.setdefault(feed, _Moment())
            self._moments.move_to_end(feed)
            while len(self._moments) > _MAX_MOMENTS:
                self._moments.popitem(last=False)
            age = now - known.settled
            if 0 <= age < FROZEN_US:
                return known.settled
            if 0 <= age < _STALE_US and now - known.pending < _PENDING_US:
                return known.settled
            known.pending = now
            return now

    def settle(self, feed: Hashable, moment: int) -> None:
        """Note that the ranking of a moment is ready."""
        with self._lock:
            known = self._moments.get(feed)
            if known is not None and moment > known.settled:
                known.settled, known.pending = moment, 0
