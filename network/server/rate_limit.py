"""Points per key: a token bucket for each client or account, in bounded memory."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from network.errors import XrpcError
from network.http.budget import TokenBucket

MAX_KEYS: Final = 50_000


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


class RateLimit:
    """A limit of `limit` points in `window` seconds for each key, refilled steadily.

    Beyond `max_keys` the least recently used key is dropped. Safe in threads.
    """

    def __init__(
        self,
        limit: int,
        window: float,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: LRUCache[str, TokenBucket] = LRUCache(max_keys)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, points: int = 1) -> Quota:
        """Take points. Raises XrpcError 429, and takes none, if there are too few."""
        quota = self.try_take(key, points)
        if quota.wait:
            raise quota.refuse()
        return quota

    def try_take(self, key: str, points: int = 1) -> Quota:
        """Take points if there are enough; the quota has a `wait` if not."""
        bucket = self._bucket(key)
        taken = bucket.take(points)
        return self._quota(bucket, 0 if taken else points)

    def look(self, key: str, points: int = 1) -> Quota:
        """Return the quota of a key without taking points."""
        return self._quota(self._bucket(key), points)

    def charge(self, key: str, points: int) -> None:
        """Take as many of the points as there are; for costs known afterwards."""
        self._bucket(key).drain(points)

    def _quota(self, bucket: TokenBucket, points: int) -> Quota:
        left = bucket.tokens
        rate = self.limit / self.window
        wait = max(0.0, (points - left) / rate)
        full_in = max(0.0, (self.limit - left) / rate)
        return Quota(self.limit, self.window, max(0, int(left)), full_in, wait)

    def _bucket(self, key: str) -> TokenBucket:
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is None:
                rate = self.limit / self.window
                bucket = TokenBucket(rate, self.limit, self._clock)
                self._buckets[key] = bucket
            return bucket


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
