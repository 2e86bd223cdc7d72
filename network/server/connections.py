"""The connections of one server: bounded in number, per address, and in time.

A connection that waits for its client (for a request or for a reader) is closed when a
new one needs its slot: first of the same address, else of the address with the most.
Idle sockets therefore never keep other clients out.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from network.server.client_address import (
    LOOPBACK,
    address_key,
    is_in,
    parse_address,
    parse_networks,
)

MAX_CONNECTIONS: Final = 4_000
_SWEEP_S: Final = 1.0
_RESERVED_FILES: Final = 256
_MOST_FILES: Final = 65_536
# The bound of a request's head, its trailers, or its chunk extensions.
_MAX_HEAD_BYTES: Final = 65_536
_CLOSE_GRACE_S: Final = 5
# Pipelined requests of one connection. One read from a socket may hold 14,000, a
# kilobyte of memory each.
_MAX_PIPELINED: Final = 32
# The part of all connections that one proxy may hold.
_PROXY_PART: Final = 0.75


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The bounds of a server's connections, times in seconds.

    A request head must arrive within `head_s`. A reader that takes nothing for
    `stall_s` is closed. The `proxies` may hold three quarters of all connections, any
    other address `per_address`.
    """

    total: int = MAX_CONNECTIONS
    per_address: int = 256
    head_s: float = 10.0
    stall_s: float = 30.0
    proxies: tuple[str, ...] = LOOPBACK


@dataclass(slots=True)
class _OfAddress:
    """The connections of one address; `waiting` for the client, oldest first."""

    count: int = 0
    waiting: OrderedDict[BoundedHttp, None] = field(default_factory=OrderedDict)


class Connections:
    """All connections of one server, on one event loop."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits = limits or ConnectionLimits()
        self._total = min(limits.total, raise_file_limit() - _RESERVED_FILES)
        self._proxies = parse_networks(limits.proxies)
        self._addresses: dict[str, _OfAddress] = {}
        self._all: set[BoundedHttp | BoundedWebSocket] = set()
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, connection: BoundedHttp) -> bool:
        """Add a new connection; return False if there is no free slot."""
        host = connection.client[0] if connection.client else ""
        connection.key, most = self._place(host)
        mine = self._addresses.get(connection.key)
        if mine is not None and mine.count >= most and not self._drop_oldest(mine):
            return False
        if len(self._all) >= self._total and not self._make_room():
            return False
        self._add(connection)
        return True

    def enter_upgraded(self, connection: BoundedWebSocket) -> None:
        """Add a WebSocket; it had a slot before its upgrade."""
        host = connection.client[0] if connection.client else ""
        connection.key, _ = self._place(host)
        self._add(connection)

    def leave(self, connection: BoundedHttp | BoundedWebSocket) -> None:
        """Remove a connection, also one that was never added."""
        if connection not in self._all:
            return
        self._all.discard(connection)
        mine = self._addresses[connection.key]
        mine.count -= 1
        mine.waiting.pop(connection, None)  # type: ignore[arg-type]
        if not mine.count:
            del self._addresses[connection.key]

    def waits(self, connection: BoundedHttp, waits: bool) -> None:
        """Note that a connection starts or stops waiting for its client."""
        if connection not in self._all:
            return
        waiting = self._addresses[connection.key].waiting
        waiting.pop(connection, None)
        if waits:
            waiting[connection] = None

    def _add(self, connection: BoundedHttp | BoundedWebSocket) -> None:
        self._all.add(connection)
        mine = self._addresses.setdefault(connection.key, _OfAddress())
        mine.count += 1
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(_SWEEP_S, self._sweep, connection.loop)

    def _place(self, host: str) -> tuple[str, int]:
        """Return the key of an address, and its maximum number of connections."""
        address = parse_address(host)
        if address is None:
            return host, self._total  # a UNIX socket
        most = self.limits.per_address
        if is_in(address, self._proxies):
            most = int(self._total * _PROXY_PART)
        return address_key(address), min(most, self._total)

    def _make_room(self) -> bool:
        """Drop the oldest waiting connection of the address with the most of them."""
        most = max(self._addresses.values(), key=lambda mine: len(mine.waiting))
        return self._drop_oldest(most)

    def _drop_oldest(self, mine: _OfAddress) -> bool:
        if not mine.waiting:
            return False
        oldest = next(iter(mine.waiting))
        self.leave(oldest)
        oldest.transport.abort()
        return True

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._all):
            connection.stall.look(connection.transport, now, self.limits.stall_s)
            if isinstance(connection, BoundedHttp):
                connection.check_head(now)
        self._sweeping = bool(self._all)
        if self._sweeping:
            loop.call_later(_SWEEP_S, self._sweep, loop)


class _Stall:
    """The progress of one connection's reader."""

    __slots__ = ("_left", "_since", "progressed")

    def __init__(self) -> None:
        self._left = 0
        self._since = 0.0
        self.progressed = False

    def look(
        self, transport: asyncio.Transport | None, now: float, patience: float
    ) -> None:
        """Close a connection whose reader took nothing for `patience` seconds."""
        if transport is None:
            return
        left = transport.get_write_buffer_size()
        if not self._left or left < self._left or self.progressed:
            self._since = now
        self._left = left
        self.progressed = False
        if left and now - self._since > patience:
            transport.abort()


class BoundedHttp(HttpToolsProtocol):
    """An HTTP connection among `bounds`."""

    def __init__(self, bounds: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.key = ""
        self.stall = _Stall()
        self._bounds = bounds
        self._head_since: float | None = None
        self._unread = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if self._bounds.enter(self):
            self._bounds.waits(self, True)
        else:
            self._refuse(503, b"Service Unavailable")

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounds.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused or self.parser is None:
            return
        if self._head_since is None and self._is_idle():
            self._head_since = self.loop.time()
        self._unread += len(data)
        super().data_received(data)
        if self._unread > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, b"Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        self._head_since = None
        self._unread = 0
        if self._refused:
            return
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._refuse(429, b"Too Many Requests")
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        if self._refused:
            return
        super().on_message_complete()
        self._bounds.waits(self, False)

    def on_response_complete(self) -> None:
        more = bool(self.pipeline)
        super().on_response_complete()
        if not more:
            self._bounds.waits(self, True)
            if self.cycle is not None and self.cycle.more_body:
                # The rest of an unread body counts as the next head.
                self._head_since = self.loop.time()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._bounds.waits(self, True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stall.progressed = True
        if not self._is_idle():
            self._bounds.waits(self, False)

    def handle_websocket_upgrade(self) -> None:
        self._bounds.leave(self)
        super().handle_websocket_upgrade()

    def check_head(self, now: float) -> None:
        """Refuse a client whose request head does not arrive in time."""
        since = self._head_since
        if (
            since is not None
            and now - since > self._bounds.limits.head_s
            and not self.transport.is_closing()
        ):
            self._refuse(408, b"Request Timeout")

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: int, phrase: bytes) -> None:
        self._refused = True
        if self._is_idle():
            self.transport.write(
                b"HTTP/1.1 %d %b\r\nRetry-After: 1\r\nConnection: close\r\n"
                b"Content-Length: 0\r\n\r\n" % (status, phrase)
            )
        self.transport.close()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket among `bounds`.

    Closing waits for the peer to read the buffer; after a grace time the socket is
    aborted.
    """

    def __init__(self, bounds: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.key = ""
        self.stall = _Stall()
        self._bounds = bounds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._bounds.enter_upgraded(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounds.leave(self)
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stall.progressed = True

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # Refused: uvicorn would log an error for each.
            self.handshake_complete = True

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self.loop.call_later(_CLOSE_GRACE_S, self.transport.abort)


def raise_file_limit() -> int:
    """Raise the limit of open files as far as allowed; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return most if soft == resource.RLIM_INFINITY else soft
