"""Budgets of hosts: token buckets, concurrency, learned Retry-After."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Final

from network.errors import RateLimitedError
from network.http.policy import CallerBudget, HostLimits, Policy

Clock = Callable[[], float]

_MAX_DIGITS: Final = 20


class TokenBucket:
    """A bucket of `rate` tokens a second, at most `burst` saved. Safe in threads."""

    __slots__ = ("_burst", "_clock", "_lock", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: int, clock: Clock = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._updated = clock()
        self._lock = threading.Lock()

    def _refill(self) -> None:
        now = self._clock()
        elapsed = max(0.0, now - self._updated)
        self._tokens = min(float(self._burst), self._tokens + elapsed * self._rate)
        self._updated = now

    def reserve(self, max_wait: float, points: int = 1) -> float | None:
        """Take tokens, also future ones; return the seconds to wait for them.

        Returns None, and takes nothing, if the wait is longer than `max_wait`.
        """
        with self._lock:
            self._refill()
            wait = max(0.0, (points - self._tokens) / self._rate)
            if wait > max_wait:
                return None
            self._tokens -= points
            return wait

    def take(self, points: int = 1) -> bool:
        """Take tokens if there are enough; return True if so."""
        return self.reserve(0.0, points) is not None

    def drain(self, points: int) -> None:
        """Take as many of the tokens as there are."""
        with self._lock:
            self._refill()
            self._tokens -= min(points, max(0.0, self._tokens))

    @property
    def tokens(self) -> float:
        """Return the tokens that are there now."""
        with self._lock:
            self._refill()
            return self._tokens

    def wait_needed(self) -> float:
        """Return the seconds until there is a token."""
        with self._lock:
            self._refill()
            return max(0.0, (1.0 - self._tokens) / self._rate)


def parse_retry_after(
    headers: Mapping[str, str], *, now: float, default: float, cap: float
) -> float:
    """Return the seconds to wait by `Retry-After` (number or date) or
    `RateLimit-Reset`.

    `now` is Unix time. Negative, absent and unreadable values give `default`. No value
    gives more than `cap`, so that a host cannot pause itself for ever.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text) if len(text) <= _MAX_DIGITS else cap
        return min(seconds, cap)
    if text:
        try:
            then = parsedate_to_datetime(text).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            return min(default, cap)
        return min(then - now, cap) if then > now else min(default, cap)
    reset = headers.get("RateLimit-Reset", "").strip()
    if reset.isascii() and reset.isdigit() and len(reset) <= _MAX_DIGITS:
        seconds = float(reset)
        if seconds > now:
            return min(seconds - now, cap)
    return min(default, cap)


class _Host:
    __slots__ = ("bucket", "in_use", "limits", "paused_until", "slots")

    def __init__(self, limits: HostLimits, bucket: TokenBucket) -> None:
        self.limits = limits
        self.bucket = bucket
        self.slots = asyncio.Semaphore(limits.concurrency)
        self.in_use = 0
        self.paused_until = 0.0


class HostBudgets:
    """The budgets of the hosts used most recently."""

    def __init__(self, policy: Policy, clock: Clock = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._limits: dict[str, HostLimits] = {}
        self._shared: dict[str, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def set_limits(
        self, authority: str, limits: HostLimits, shared: TokenBucket | None = None
    ) -> None:
        """Give one `host:port` limits of its own, for a trusted or weak host.

        With `shared` its rate is that of a bucket that others use too.
        """
        self._limits[authority] = limits
        self._shared.pop(authority, None)
        if shared is not None:
            self._shared[authority] = shared
        self._hosts.pop(authority, None)

    def _host(self, authority: str, limits: HostLimits | None = None) -> _Host:
        host = self._hosts.get(authority)
        if host is None:
            if limits is None:
                limits = self._limits.get(authority, self._policy.limits)
            bucket = self._shared.get(authority)
            if bucket is None:
                bucket = TokenBucket(limits.rate, limits.burst, self._clock)
            host = self._hosts[authority] = _Host(limits, bucket)
            self._evict()
        self._hosts.move_to_end(authority)
        return host

    def _evict(self) -> None:
        if len(self._hosts) <= self._policy.max_hosts:
            return
        # A host in use stays, so that its concurrency limit holds.
        idle = next((name for name, host in self._hosts.items() if not host.in_use), "")
        self._hosts.pop(idle, None)

    def paused_for(self, authority: str) -> float:
        """Return the seconds until the host accepts requests again."""
        host = self._hosts.get(authority)
        return max(0.0, host.paused_until - self._clock()) if host else 0.0

    def pause(self, authority: str, seconds: float) -> None:
        """Pause requests to the host for some seconds (a learned Retry-After)."""
        host = self._host(authority)
        host.paused_until = max(host.paused_until, self._clock() + seconds)

    @asynccontextmanager
    async def slot(
        self, authority: str, caller: CallerBudget | None = None
    ) -> AsyncIterator[None]:
        """Hold one request slot of the host, waiting for it within its limits.

        With `caller` the slot is one of that caller at the host. Raises
        RateLimitedError if the wait is longer than `max_wait`.
        """
        if caller is None:
            host = self._host(authority)
        else:
            host = self._host(f"{authority} {caller.caller}", caller.limits)
        host.in_use += 1
        try:
            try:
                async with asyncio.timeout(host.limits.max_wait):
                    await host.slots.acquire()
            except TimeoutError:
                raise RateLimitedError(
                    f"{authority} is busy with our requests", host.limits.max_wait
                ) from None
            try:
                await self._wait_for_turn(authority, host)
                yield
            finally:
                host.slots.release()
        finally:
            host.in_use -= 1

    async def _wait_for_turn(self, authority: str, host: _Host) -> None:
        pause = host.paused_until - self._clock()
        if pause > host.limits.max_wait:
            raise RateLimitedError(f"{authority} asked us to wait", pause)
        if pause > 0:
            await asyncio.sleep(pause)
        wait = host.bucket.reserve(host.limits.max_wait)
        if wait is None:
            raise RateLimitedError(
                f"our budget for {authority} is spent", host.bucket.wait_needed()
            )
        if wait > 0:
            await asyncio.sleep(wait)
