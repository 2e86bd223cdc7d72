"""Fixed-window rate limits, in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MAX_KEYS = 50_000


class RateLimit:
    """At most `limit` calls per key in each window of `window` seconds.

    Memory is bounded: beyond 50,000 keys the oldest windows are forgotten first.
    """

    def __init__(
        self, limit: int, window: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self.window = window
        self._now = now
        self._lock = threading.Lock()
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, key: str) -> float | None:
        """Count one call. None when allowed, else the seconds until the next window."""
        now = self._now()
        with self._lock:
            started, count = self._windows.get(key, (now, 0))
            if now - started >= self.window:
                started, count = now, 0
                self._windows.pop(key, None)
            if count >= self.limit:
                return started + self.window - now
            self._windows[key] = (started, count + 1)
            while len(self._windows) > _MAX_KEYS:
                self._windows.popitem(last=False)
            return None
