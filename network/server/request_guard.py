"""One guard for everything that a server answers: a share for each client.

The key of a client is the verified DID that it acts for, else its address. Every key
has so many requests a minute, so many at once, so many of the handler threads at once
and so many WebSockets. All accounts of one address leave a quarter of the threads to
others. Refusals are 429 with Retry-After.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from network.errors import XrpcError
from network.server.client_address import (
    LOOPBACK,
    Address,
    address_key,
    is_in,
    parse_address,
    parse_networks,
)
from network.server.rate_limit import MAX_KEYS, Quota, RateLimit

_MAX_HOPS: Final = 16
_SCOPE_KEY: Final = "bigworld.admission"
_LOCAL: Final = "local"
# A PDS speaks for many users from one address. Until their tokens are verified it has
# so many times the share of one client; a token that proves nothing costs as much.
_UNVERIFIED: Final = 20
_TRUSTED: Final = 30
# Of the handler threads, for all the accounts that ask from one address.
_OF_ADDRESS: Final = 0.75
_EVERYBODY: Final = "all of "
_QUEUE_S: Final = 2.0
_QUEUE_PER_PLACE: Final = 8
# A bearer token of three parts; what is in it is for the authenticator to judge.
_TOKEN: Final = re.compile(rb"(?i:bearer) +[\w-]{2,}\.[\w-]{2,}\.[\w-]{2,}")


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """The shares of one client, and who gets larger ones.

    `rate` requests a second with bursts of `burst`, `at_once` requests under way,
    `working` as a part of the handler threads, `sockets` WebSockets. `X-Forwarded-For`
    is believed from `trusted_proxies`, read from the right. Addresses of
    `trusted_clients` (PDSes, which ask without a token too) have 30 times the share.
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


class RequestGuard:
    """The shares of all clients of one server with `threads` handler threads.

    `middleware` wraps the whole app. Inside, `admission_of(scope)` is the request's
    own share. Belongs to one event loop.
    """

    def __init__(
        self,
        policy: GuardPolicy | None = None,
        *,
        threads: int = 16,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.policy = policy = policy or GuardPolicy()
        self._proxies = parse_networks(policy.trusted_proxies)
        self._trusted = parse_networks(policy.trusted_clients)
        self._threads = threads
        self._addresses = self._limit(1, clock)
        self._unverified = self._limit(_UNVERIFIED, clock)
        self._trusted_addresses = self._limit(_TRUSTED, clock)
        self._accounts = self._limit(1, clock)
        self._open: _Counts = _Counts()
        self._sockets: _Counts = _Counts()
        self._places: dict[str, _Places] = {}

    def _limit(self, times: int, clock: Callable[[], float]) -> RateLimit:
        policy = self.policy
        return RateLimit(
            policy.burst * times,
            policy.burst / policy.rate,
            max_keys=policy.max_keys,
            clock=clock,
        )

    def middleware(self, app: ASGIApp, *, places: bool = False) -> ASGIApp:
        """Return `app` behind this guard.

        With `places` each HTTP request holds one of its client's places among the
        handler threads all the time: for apps that do not ask for it themselves.
        """
        return _Guarded(app, self, places)

    def admit(self, scope: Scope) -> Admission:
        """Open the share of a request. Raises XrpcError 429. `close` it in the end."""
        client = self.client_of(scope)
        claims = _TOKEN.match(_authorization(scope)) is not None
        limit = self._addresses
        if client.trusted:
            limit = self._trusted_addresses
        elif claims:
            limit = self._unverified
        quota = limit.take(client.address)
        return Admission(self, client, quota, claims, scope["type"] == "websocket")

    def client_of(self, scope: Scope) -> Client:
        """Return who sent a request, as far as trusted proxies tell."""
        peer = parse_address(scope["client"][0]) if scope.get("client") else None
        if peer is None:
            return Client(_LOCAL, True)  # a UNIX socket, or a test
        hops = [
            text
            for value in Headers(scope=scope).getlist("x-forwarded-for")
            for text in value.split(",")
        ]
        client = self._origin(peer, hops)
        # What a proxy on this machine forwards is not from this machine.
        trusted = is_in(client, self._trusted) and not (client.is_loopback and hops)
        return Client(address_key(client), trusted)

    def _origin(self, peer: Address, hops: Sequence[str]) -> Address:
        origin = peer
        for text in reversed(hops[-_MAX_HOPS:]):
            if not is_in(origin, self._proxies):
                return origin
            before = parse_address(text.strip())
            if before is None:
                return origin  # nonsense from here on: the last good one answers
            origin = before
        return origin


class Admission:
    """One request's place: who asks, and the shares that it holds until `close`."""

    def __init__(
        self,
        guard: RequestGuard,
        client: Client,
        quota: Quota,
        claims: bool,
        is_socket: bool,
    ) -> None:
        self.address = client.address
        self.key = client.address
        self.quota = quota
        self._guard = guard
        self._claims = claims
        self._identified = False
        self._held: list[_Places] = []
        self._trusted = client.trusted
        self._counts = guard._sockets if is_socket else guard._open
        policy = guard.policy
        most = policy.sockets
        if not is_socket:
            most = policy.at_once * (_UNVERIFIED if claims or client.trusted else 1)
        self._counts.enter(self.key, most, quota)

    def identify(self, did: str) -> None:
        """Count the request for a verified account from now on. Raises XrpcError 429.

        Its address keeps the loose share of unverified tokens, whatever it sends.
        """
        if self._identified:
            return
        self._identified = True
        self.note(self._guard._accounts.take(did))
        self._counts.move(self.key, did, self._guard.policy.at_once, self.quota)
        self.key = did

    def note(self, quota: Quota) -> None:
        """Show a quota in the answer's headers: that of a limit of the method's own."""
        self.quota = quota

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Hold one of the key's places among the handler threads.

        Waits two seconds for one at most. Raises XrpcError 429.
        """
        async with AsyncExitStack() as held:
            if self._identified:
                # Who has names by the hundred leaves threads to others all the same.
                name = _EVERYBODY + self.address
                await held.enter_async_context(self._hold(name, _OF_ADDRESS))
            await held.enter_async_context(self._hold(self.key, self._part()))
            yield

    @asynccontextmanager
    async def resting(self) -> AsyncIterator[None]:
        """Give the places back while another server is waited for.

        Raises XrpcError 429 if there are none afterwards.
        """
        held, self._held = self._held, []
        for places in held:
            places.leave()
        yield
        for places in held:
            await places.enter(self.quota)
            self._held.append(places)

    @asynccontextmanager
    async def _hold(self, key: str, part: float) -> AsyncIterator[None]:
        guard = self._guard
        places = guard._places.get(key)
        if places is None:
            most = max(2, int(guard._threads * part))
            places = guard._places[key] = _Places(most)
        places.users += 1
        try:
            await places.enter(self.quota)
            self._held.append(places)
            try:
                yield
            finally:
                if places in self._held:
                    self._held.remove(places)
                    places.leave()
        finally:
            places.users -= 1
            if not places.users:
                guard._places.pop(key, None)

    def _part(self) -> float:
        part = self._guard.policy.working
        if self._trusted and not self._identified:
            part = max(part, _OF_ADDRESS)
        return part

    def close(self) -> None:
        """Give back what the request held."""
        self._counts.leave(self.key)
        if self._claims and not self._identified and not self._trusted:
            self._guard._unverified.charge(self.address, _UNVERIFIED - 1)


class _Counts:
    """How many are open for each key; keys with none are forgotten."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def enter(self, key: str, most: int, quota: Quota) -> None:
        count = self._counts.get(key, 0)
        if count >= most:
            raise _too_many_at_once(quota)
        self._counts[key] = count + 1

    def leave(self, key: str) -> None:
        count = self._counts.get(key, 0) - 1
        if count > 0:
            self._counts[key] = count
        else:
            self._counts.pop(key, None)

    def move(self, key: str, other: str, most: int, quota: Quota) -> None:
        self.enter(other, most, quota)
        self.leave(key)


class _Places:
    """The places of one key among the handler threads, first come first served."""

    def __init__(self, most: int) -> None:
        self.users = 0
        self._most = most
        self._free = asyncio.Semaphore(most)

    async def enter(self, quota: Quota) -> None:
        if self.users > self._most * (1 + _QUEUE_PER_PLACE):
            raise _too_many_at_once(quota)
        try:
            async with asyncio.timeout(_QUEUE_S):
                await self._free.acquire()
        except TimeoutError:
            raise _too_many_at_once(quota) from None

    def leave(self) -> None:
        self._free.release()


class _Guarded:
    """The middleware: every request has an Admission in its scope, or gets a 429."""

    def __init__(self, app: ASGIApp, guard: RequestGuard, places: bool) -> None:
        self._app = app
        self._guard = guard
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            admission = self._guard.admit(scope)
        except XrpcError as error:
            await _refuse(error, scope, receive, send)
            return

        async def send_quota(message: Message) -> None:
            if message["type"] in (
                "http.response.start",
                "websocket.http.response.start",
            ):
                headers = MutableHeaders(scope=message)
                for name, value in admission.quota.headers().items():
                    headers.setdefault(name, value)
            await send(message)

        scope[_SCOPE_KEY] = admission
        async with AsyncExitStack() as held:
            held.callback(admission.close)
            if self._places and scope["type"] == "http":
                try:
                    await held.enter_async_context(admission.working())
                except XrpcError as error:
                    await _refuse(error, scope, receive, send)
                    return
            await self._app(scope, receive, send_quota)


async def _refuse(error: XrpcError, scope: Scope, receive: Receive, send: Send) -> None:
    response = JSONResponse(
        {"error": error.name, "message": error.message},
        error.status,
        # What is left of a body on its way would be read for nothing.
        {**error.headers, "Connection": "close"},
    )
    if scope["type"] == "http" or "websocket.http.response" in scope["extensions"]:
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1013})


def admission_of(scope: Any) -> Admission | None:
    """Return the share of a request by its scope; None without a guard."""
    found = scope.get(_SCOPE_KEY)
    return found if isinstance(found, Admission) else None


def identify(scope: Any, did: str) -> None:
    """Count a request for a verified account. Raises XrpcError 429."""
    admission = admission_of(scope)
    if admission is not None:
        admission.identify(did)


def client_key(scope: Any) -> str:
    """Return the key that limits of a method's own count by: a DID or an address."""
    admission = admission_of(scope)
    return _LOCAL if admission is None else admission.key


@asynccontextmanager
async def working(scope: Any) -> AsyncIterator[None]:
    """Hold one of the client's places among the handler threads. XrpcError 429."""
    admission = admission_of(scope)
    if admission is None:
        yield
        return
    async with admission.working():
        yield


@asynccontextmanager
async def resting(scope: Any) -> AsyncIterator[None]:
    """Inside `working`: hold no place while another server is waited for."""
    admission = admission_of(scope)
    if admission is None:
        yield
        return
    async with admission.resting():
        yield


def _too_many_at_once(quota: Quota) -> XrpcError:
    headers = quota.headers() | {"Retry-After": "1"}
    return XrpcError("RateLimitExceeded", "Too many requests at once", 429, headers)


def _authorization(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return bytes(value)
    return b""
