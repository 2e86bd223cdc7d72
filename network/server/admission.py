"""The share of one request: its client, and the slots that it holds until it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from network.errors import XrpcError
from network.server.client_address import LOOPBACK
from network.server.rate_limit import MAX_KEYS, Quota, RateLimit, take_from_all, uncount
from network.server.shared_buckets import SharedBuckets

SCOPE_KEY: Final = "bigworld.admission"
LOCAL: Final = "local"
# A PDS forwards for many users from one address. Until their tokens are verified it has
# this many times the share of one client. A token that is never verified costs as much.
_UNVERIFIED: Final = 20
_TRUSTED: Final = 30
# The part of the handler threads that all accounts of one address may hold.
_PART_OF_ADDRESS: Final = 0.75
_ADDRESS_PREFIX: Final = "all of "
_QUEUE_S: Final = 2.0
_QUEUE_PER_SLOT: Final = 8


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """The shares of one client, and the networks with larger ones.

    `rate` requests a second with bursts of `burst`, `at_once` open requests, `working`
    as a part of the handler threads, `sockets` WebSockets. `X-Forwarded-For` is read
    from the right, as long as `trusted_proxies` wrote it. Addresses of
    `trusted_clients` (PDSes, also without a token) have 30 times the share.
    """

    rate: float = 10.0
    burst: int = 600
    at_once: int = 64
    working: float = 0.25
    sockets: int = 50
    trusted_proxies: tuple[str, ...] = LOOPBACK
    trusted_clients: tuple[str, ...] = LOOPBACK
    max_keys: int = MAX_KEYS


@dataclass(frozen=True, slots=True)
class Client:
    """The sender of a request: its key (an IPv4 address or an IPv6 /64)."""

    address: str
    trusted: bool


class Shares:
    """The limits and counts of all clients of one server.

    Of several processes the limits are one, with `shared`; each has its own counts.
    """

    def __init__(
        self,
        policy: GuardPolicy,
        threads: int,
        clock: Callable[[], float],
        shared: SharedBuckets | None = None,
    ) -> None:
        self.policy = policy
        self.threads = threads
        self._clock = clock
        self._shared = shared
        self.addresses = self._limit("address", 1)
        self.trusted_addresses = self._limit("trusted address", _TRUSTED)
        self.unverified = self._limit("unverified", _UNVERIFIED)
        self.accounts = self._limit("account", 1)
        self.requests: Counter[str] = Counter()
        self.sockets: Counter[str] = Counter()
        self.slots: dict[str, HandlerSlots] = {}

    def _limit(self, name: str, times: int) -> RateLimit:
        policy = self.policy
        return RateLimit(
            policy.burst * times,
            policy.burst / policy.rate,
            max_keys=policy.max_keys,
            clock=self._clock,
            buckets=self._shared and self._shared.named(name),
        )


class Admission:
    """The client of a request and its slots; `close` it when the request ends."""

    def __init__(
        self,
        shares: Shares,
        client: Client,
        quota: Quota,
        claims: bool,
        is_socket: bool,
    ) -> None:
        self.address = client.address
        self.key = client.address
        self.quota = quota
        self._shares = shares
        self._claims = claims
        self._identified = False
        self._held: list[HandlerSlots] = []
        self._trusted = client.trusted
        self._counts = shares.sockets if is_socket else shares.requests
        policy = shares.policy
        most = policy.sockets
        if not is_socket:
            most = policy.at_once * (_UNVERIFIED if claims or client.trusted else 1)
        self._enter(self.key, most)

    def identify(self, did: str) -> None:
        """Count the request for a verified account from here on. Raises XrpcError 429.

        Its address keeps the larger share of unverified tokens.
        """
        if self._identified:
            return
        self._identified = True
        self.note(self._shares.accounts.take(did))
        self._enter(did, self._shares.policy.at_once)
        uncount(self._counts, self.key)
        self.key = did

    def note(self, quota: Quota) -> None:
        """Show a method's own quota in the headers of the response."""
        self.quota = quota

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Hold one of the key's handler slots.

        Waits at most two seconds for it. Raises XrpcError 429.
        """
        async with AsyncExitStack() as held:
            part = self._shares.policy.working
            if self._identified:
                # An address with hundreds of accounts leaves threads to others too.
                name = _ADDRESS_PREFIX + self.address
                await held.enter_async_context(self._hold(name, _PART_OF_ADDRESS))
            elif self._trusted:
                part = max(part, _PART_OF_ADDRESS)
            await held.enter_async_context(self._hold(self.key, part))
            yield

    @asynccontextmanager
    async def resting(self) -> AsyncIterator[None]:
        """Give the slots back during a call to another server.

        Raises XrpcError 429 if none is free afterwards.
        """
        held, self._held = self._held, []
        for slots in held:
            slots.leave()
        yield
        for slots in held:
            await slots.enter(self.quota)
            self._held.append(slots)

    @asynccontextmanager
    async def _hold(self, key: str, part: float) -> AsyncIterator[None]:
        shares = self._shares
        slots = shares.slots.get(key)
        if slots is None:
            most = max(2, int(shares.threads * part))
            slots = shares.slots[key] = HandlerSlots(most)
        slots.users += 1
        try:
            await slots.enter(self.quota)
            self._held.append(slots)
            try:
                yield
            finally:
                if slots in self._held:
                    self._held.remove(slots)
                    slots.leave()
        finally:
            slots.users -= 1
            if not slots.users:
                shares.slots.pop(key, None)

    def close(self) -> None:
        """Give back what the request holds."""
        uncount(self._counts, self.key)
        if self._claims and not self._identified and not self._trusted:
            self._shares.unverified.charge(self.address, _UNVERIFIED - 1)

    def _enter(self, key: str, most: int) -> None:
        if self._counts[key] >= most:
            raise _too_many_at_once(self.quota)
        self._counts[key] += 1


class HandlerSlots:
    """The handler slots of one key, first come first served."""

    def __init__(self, most: int) -> None:
        self.users = 0
        self._most = most
        self._free = asyncio.Semaphore(most)

    async def enter(self, quota: Quota) -> None:
        if self.users > self._most * (1 + _QUEUE_PER_SLOT):
            raise _too_many_at_once(quota)
        try:
            async with asyncio.timeout(_QUEUE_S):
                await self._free.acquire()
        except TimeoutError:
            raise _too_many_at_once(quota) from None

    def leave(self) -> None:
        self._free.release()


def admission_of(scope: Any) -> Admission | None:
    """Return the admission in a request's scope; None without a guard."""
    found = scope.get(SCOPE_KEY)
    return found if isinstance(found, Admission) else None


def identify(scope: Any, did: str) -> None:
    """Count a request for a verified account. Raises XrpcError 429."""
    admission = admission_of(scope)
    if admission is not None:
        admission.identify(did)


def client_key(scope: Any) -> str:
    """Return the key of a method's own limits: a DID or an address."""
    admission = admission_of(scope)
    return LOCAL if admission is None else admission.key


def client_address(scope: Any) -> str:
    """Return the client's address (an IPv6 /64)."""
    admission = admission_of(scope)
    return "unknown" if admission is None else admission.address


def take_points(
    scope: Any, limits: Sequence[RateLimit], key: str, points: int = 1
) -> None:
    """Take points of a method's own limits, and show their quota in the response.

    Raises XrpcError 429, and takes none, if one of the limits has too few.
    """
    quota = take_from_all(limits, key, points)
    admission = admission_of(scope)
    if admission is not None:
        admission.note(quota)


@asynccontextmanager
async def working(scope: Any) -> AsyncIterator[None]:
    """Hold one of the client's handler slots. Raises XrpcError 429."""
    admission = admission_of(scope)
    if admission is None:
        yield
        return
    async with admission.working():
        yield


@asynccontextmanager
async def resting(scope: Any) -> AsyncIterator[None]:
    """Give the slots of `working` back during a call to another server."""
    admission = admission_of(scope)
    if admission is None:
        yield
        return
    async with admission.resting():
        yield


def _too_many_at_once(quota: Quota) -> XrpcError:
    headers = quota.headers() | {"Retry-After": "1"}
    return XrpcError("RateLimitExceeded", "Too many requests at once", 429, headers)
