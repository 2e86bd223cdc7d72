"""Points per key: a token bucket for each client or account, in bounded memory."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cachetools import LRUCache

from network.errors import XrpcError
from network.server.shared_buckets import Change

MAX_KEYS: Final = 50_000
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Quota:
    """The state of one key's bucket, times in seconds.

    `wait` is the time until the requested points are there, 0 if they are.
    """

    limit: int
    window: float
    remaining: int
    full_in: float
    wait: float = 0.0

    def headers(self) -> dict[str, str]:
        """Return the RateLimit headers of a response, as the reference PDS names them.

        A refusal resets when the points are there, any other response when the bucket
        is full.
        """
        reset = time.time() + (self.wait or self.full_in)
        headers = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(math.ceil(reset)),
            "RateLimit-Policy": f"{self.limit};w={math.ceil(self.window)}",
        }
        if self.wait:
            headers["Retry-After"] = str(max(1, math.ceil(self.wait)))
        return headers

    def refuse(self, message: str = "Rate Limit Exceeded") -> XrpcError:
        """Return the error of a request over the limit."""
        return XrpcError("RateLimitExceeded", message, 429, self.headers())


class Buckets(Protocol):
    """The buckets of a limit: for each key the moment at which it is full."""

    def update(self, key: str, change: Change) -> tuple[bool, float]:
        """Apply `change` to the bucket of a key; return its result."""
        ...


class _OwnBuckets:
    """The buckets of one process. The least recently used key is dropped first."""

    def __init__(self, max_keys: int) -> None:
        self._lock = threading.Lock()
        self._moments: LRUCache[str, float] = LRUCache(max_keys)

    def update(self, key: str, change: Change) -> tuple[bool, float]:
        with self._lock:
            taken, moment = change(self._moments.get(key, 0.0))
            self._moments[key] = moment
            return taken, moment


class RateLimit:
    """A limit of `limit` points in `window` seconds for each key, refilled steadily.

    The buckets are at most `max_keys` of this process, or `buckets` that several
    processes share: then `clock` must be one clock for all. Safe in threads.
    """

    def __init__(
        self,
        limit: int,
        window: float,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
        buckets: Buckets | None = None,
    ) -> None:
        self.limit = limit
        self.window = window
        self._clock = clock
        self._buckets = buckets or _OwnBuckets(max_keys)

    def take(self, key: str, points: int = 1) -> Quota:
        """Take points. Raises XrpcError 429, and takes none, if there are too few."""
        quota = self.try_take(key, points)
        if quota.wait:
            raise quota.refuse()
        return quota

    def try_take(self, key: str, points: int = 1) -> Quota:
        """Take points if there are enough; the quota has a `wait` if not."""
        taken, left = self._spend(key, points)
        return self._quota(left, 0 if taken else points)

    def look(self, key: str, points: int = 1) -> Quota:
        """Return the quota of a key without taking points."""
        _, left = self._spend(key, 0)
        return self._quota(left, points)

    def charge(self, key: str, points: int) -> None:
        """Take as many of the points as there are; for costs known afterwards."""
        self._spend(key, points, partly=True)

    def _quota(self, left: float, points: int) -> Quota:
        rate = self.limit / self.window
        lacking = points - left
        wait = lacking / rate if lacking > _ROUNDING else 0.0
        full_in = max(0.0, (self.limit - left) / rate)
        # Rounded: what is left is the rest of a division.
        remaining = int(left + _ROUNDING)
        return Quota(self.limit, self.window, remaining, full_in, wait)

    def _spend(
        self, key: str, points: int, *, partly: bool = False
    ) -> tuple[bool, float]:
        """Take points; return True if they were there, and the points left."""
        now = self._clock()
        rate = self.limit / self.window

        def change(full_at: float) -> tuple[bool, float]:
            empty = max(0.0, full_at - now)
            left = self.limit - empty * rate
            if points > left + _ROUNDING:
                return (False, now + self.window) if partly else (False, full_at)
            return True, now + empty + points / rate if points else full_at

        taken, full_at = self._buckets.update(key, change)
        left = self.limit - max(0.0, full_at - now) * rate
        return taken, max(0.0, left)


def uncount(counts: Counter[str], key: str) -> None:
    """Count one less for a key; remove a key without any."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def take_from_all(limits: Sequence[RateLimit], key: str, points: int = 1) -> Quota:
    """Take points under several limits at once; return the tightest quota.

    Raises XrpcError 429, and takes none, if one of them has too few.
    """
    refused = max((limit.look(key, points) for limit in limits), key=lambda q: q.wait)
    if refused.wait:
        raise refused.refuse()
    return min((limit.take(key, points) for limit in limits), key=lambda q: q.remaining)
