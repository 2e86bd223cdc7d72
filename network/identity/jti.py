"""Stores of used tokens, so that none is accepted twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from network.server.rate_limit import RateLimit
from network.server.shared_buckets import SharedBuckets

# A client of one account sends far less. A token is remembered for an hour at most, so
# no issuer has more than 40,000 in the store.
_TOKENS_PER_S: Final = 10.0
_TOKENS_AT_ONCE: Final = 3_000


class TooManyTokensError(Exception):
    """An issuer has used its share of the store."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class JtiStore(Protocol):
    """A set of (iss, jti), each held until `exp` (Unix seconds) has passed."""

    async def use(self, iss: str, jti: str, exp: int) -> bool:
        """Return True at the first use of a token. Raises TooManyTokensError."""
        ...


class ThreadedJtiStore:
    """A JtiStore over a blocking `use`, such as a database's, in `threads`.

    An issuer may use `rate` tokens a second, `burst` at once; over all processes that
    have the same `shared` buckets.
    """

    def __init__(
        self,
        use: Callable[[str, str, int], bool],
        threads: CapacityLimiter,
        *,
        rate: float = _TOKENS_PER_S,
        burst: int = _TOKENS_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedBuckets | None = None,
    ) -> None:
        self._use = use
        self._threads = threads
        buckets = shared and shared.named("issuer")
        self._issuers = RateLimit(burst, burst / rate, clock=clock, buckets=buckets)

    async def use(self, iss: str, jti: str, exp: int) -> bool:
        """Return True at the first use of a token. Raises TooManyTokensError."""
        quota = self._issuers.try_take(iss)
        if quota.wait:
            raise TooManyTokensError("the issuer sends too many tokens", quota.wait)
        return await run_sync(self._use, iss, jti, exp, limiter=self._threads)
