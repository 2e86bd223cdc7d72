"""Stores of used tokens, so that none is accepted twice."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from network.http.budget import TokenBucket
from network.identity.identity_cache import BoundedCache

MAX_REMEMBERED: Final = 200_000
MAX_PER_ISSUER: Final = 2_000
# A client of one account sends far less; a token is remembered for an hour at most,
# so no issuer has more than 40,000 in the store.
ISSUER_TOKENS_PER_S: Final = 10.0
ISSUER_TOKENS_AT_ONCE: Final = 3_000
_ISSUERS: Final = 50_000


class TooManyTokensError(Exception):
    """An issuer has used its share of the store."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class JtiStore(Protocol):
    """`use` is True once for each (iss, jti) until `exp` (Unix seconds) has passed.

    It raises TooManyTokensError for an issuer that has used its share.
    """

    async def use(self, iss: str, jti: str, exp: int) -> bool: ...


class MemoryJtiStore:
    """A store of one process. When full it refuses new tokens and forgets none."""

    def __init__(
        self,
        now: Callable[[], float],
        max_remembered: int = MAX_REMEMBERED,
        per_issuer: int = MAX_PER_ISSUER,
    ) -> None:
        self._now = now
        self._max = max_remembered
        self._per_issuer = per_issuer
        self._used: set[tuple[str, str]] = set()
        self._held: Counter[str] = Counter()
        self._by_expiry: list[tuple[int, str, str]] = []

    async def use(self, iss: str, jti: str, exp: int) -> bool:
        """Return True if this token was not used before."""
        now = self._now()
        while self._by_expiry and self._by_expiry[0][0] < now:
            self._forget_first()
        if (iss, jti) in self._used:
            return False
        if self._held[iss] >= self._per_issuer or len(self._used) >= self._max:
            wait = max(1.0, self._by_expiry[0][0] - now)
            raise TooManyTokensError("too many tokens in use", wait)
        self._used.add((iss, jti))
        self._held[iss] += 1
        heapq.heappush(self._by_expiry, (exp, iss, jti))
        return True

    def _forget_first(self) -> None:
        _, iss, jti = heapq.heappop(self._by_expiry)
        self._used.discard((iss, jti))
        self._held[iss] -= 1
        if not self._held[iss]:
            del self._held[iss]


class ThreadedJtiStore:
    """A blocking `use(iss, jti, exp) -> bool`, such as a database's, in `threads`.

    An issuer may use `rate` tokens a second, `burst` at once.
    """

    def __init__(
        self,
        use: Callable[[str, str, int], bool],
        threads: CapacityLimiter,
        *,
        rate: float = ISSUER_TOKENS_PER_S,
        burst: int = ISSUER_TOKENS_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._use = use
        self._threads = threads
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._shares: BoundedCache[TokenBucket] = BoundedCache(_ISSUERS)

    async def use(self, iss: str, jti: str, exp: int) -> bool:
        """Return True if this token was not used before."""
        share = self._shares.get(iss)
        if share is None:
            share = TokenBucket(self._rate, self._burst, self._clock)
            self._shares.put(iss, share)
        if not share.take():
            raise TooManyTokensError(
                "the issuer sends too many tokens", share.wait_needed()
            )
        return await run_sync(self._use, iss, jti, exp, limiter=self._threads)
