"""Remembering the tokens that were used, so that none is used twice."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Protocol

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

MAX_REMEMBERED: Final = 200_000


class JtiStore(Protocol):
    """`use` is True once for each (iss, jti) until `exp` (Unix seconds) has passed."""

    async def use(self, iss: str, jti: str, exp: int) -> bool: ...


class MemoryJtiStore:
    """For one process. When full it refuses new tokens rather than forget old ones."""

    def __init__(
        self, now: Callable[[], float], max_remembered: int = MAX_REMEMBERED
    ) -> None:
        self._now = now
        self._max = max_remembered
        self._used: set[tuple[str, str]] = set()
        self._by_expiry: list[tuple[int, str, str]] = []

    async def use(self, iss: str, jti: str, exp: int) -> bool:
        """True if this token was not used before."""
        now = self._now()
        while self._by_expiry and self._by_expiry[0][0] < now:
            _, old_iss, old_jti = heapq.heappop(self._by_expiry)
            self._used.discard((old_iss, old_jti))
        if (iss, jti) in self._used or len(self._used) >= self._max:
            return False
        self._used.add((iss, jti))
        heapq.heappush(self._by_expiry, (exp, iss, jti))
        return True


class ThreadedJtiStore:
    """A blocking `use(iss, jti, exp) -> bool`, such as a database's, in `threads`."""

    def __init__(
        self, use: Callable[[str, str, int], bool], threads: CapacityLimiter
    ) -> None:
        self._use = use
        self._threads = threads

    async def use(self, iss: str, jti: str, exp: int) -> bool:
        """True if this token was not used before."""
        return await run_sync(self._use, iss, jti, exp, limiter=self._threads)
