"""Admission of requests: a share for each client, before any handler runs.

The key of a client is its verified DID, else its address. A key has a rate of requests,
and a number of open requests, handler threads and WebSockets. Over one of these it gets
429 with Retry-After.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from time import monotonic
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from network.errors import XrpcError
from network.server.admission import (
    LOCAL,
    SCOPE_KEY,
    Admission,
    Client,
    GuardPolicy,
    Shares,
)
from network.server.client_address import (
    Address,
    address_key,
    is_in,
    parse_address,
    parse_networks,
)
from network.server.shared_buckets import SharedBuckets

_MAX_HOPS: Final = 16
# A bearer token of three parts; the authenticator verifies it later.
_TOKEN: Final = re.compile(r"(?i:bearer) +[\w-]{2,}\.[\w-]{2,}\.[\w-]{2,}", re.ASCII)


class RequestGuard:
    """The shares of all clients of one server with `threads` handler threads.

    `middleware` wraps the whole app. Inside, `admission_of(scope)` is the admission of
    the request. For one event loop; the guards of several processes have one rate for
    each client if they get the same `shared` buckets.
    """

    def __init__(
        self,
        policy: GuardPolicy | None = None,
        *,
        threads: int = 16,
        clock: Callable[[], float] = monotonic,
        shared: SharedBuckets | None = None,
    ) -> None:
        self.policy = policy = policy or GuardPolicy()
        self.shares = Shares(policy, threads, clock, shared)
        self._proxies = parse_networks(policy.trusted_proxies)
        self._trusted = parse_networks(policy.trusted_clients)

    def middleware(self, app: ASGIApp, *, hold_slots: bool = False) -> ASGIApp:
        """Return `app` behind this guard.

        With `hold_slots` each HTTP request holds a handler slot until it ends: for apps
        that do not call `working` themselves.
        """
        return _Guarded(app, self, hold_slots)

    def admit(self, scope: Scope) -> Admission:
        """Open the admission of a request. Raises XrpcError 429."""
        client = self.client_of(scope)
        authorization = Headers(scope=scope).get("authorization", "")
        claims = _TOKEN.match(authorization) is not None
        shares = self.shares
        limit = shares.addresses
        if client.trusted:
            limit = shares.trusted_addresses
        elif claims:
            limit = shares.unverified
        quota = limit.take(client.address)
        return Admission(shares, client, quota, claims, scope["type"] == "websocket")

    def client_of(self, scope: Scope) -> Client:
        """Return the sender of a request, as far as trusted proxies tell it."""
        peer = parse_address(scope["client"][0]) if scope.get("client") else None
        if peer is None:
            return Client(LOCAL, True)  # a UNIX socket, or a test
        hops = [
            text
            for value in Headers(scope=scope).getlist("x-forwarded-for")
            for text in value.split(",")
        ]
        client = self._origin(peer, hops)
        # A request that a proxy on this machine forwards is not from this machine.
        trusted = is_in(client, self._trusted) and not (client.is_loopback and hops)
        return Client(address_key(client), trusted)

    def _origin(self, peer: Address, hops: Sequence[str]) -> Address:
        origin = peer
        for text in reversed(hops[-_MAX_HOPS:]):
            if not is_in(origin, self._proxies):
                return origin
            before = parse_address(text.strip())
            if before is None:
                return origin  # unreadable: the last good address counts
            origin = before
        return origin


class _Guarded:
    """The middleware: puts an Admission into the scope of a request, or answers 429."""

    def __init__(self, app: ASGIApp, guard: RequestGuard, hold_slots: bool) -> None:
        self._app = app
        self._guard = guard
        self._hold_slots = hold_slots

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

        scope[SCOPE_KEY] = admission
        async with AsyncExitStack() as held:
            held.callback(admission.close)
            if self._hold_slots and scope["type"] == "http":
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
        # Closed, so that the rest of a request body is not read.
        {**error.headers, "Connection": "close"},
    )
    if scope["type"] == "http" or "websocket.http.response" in scope["extensions"]:
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1013})
