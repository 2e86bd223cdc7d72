"""A client of event streams that reconnects from its cursor (specs/event-stream).

Frames come out raw, in order, and only when asked for: a slow consumer leaves the bytes
in the socket, which slows the sender. Lost connections are reopened after a random
pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Self, TypeAlias

import aiohttp

from network.errors import (
    BadResponseError,
    ForbiddenAddressError,
    NetworkError,
    TimedOutError,
    UnreachableError,
)
from network.http.budget import parse_retry_after
from network.http.client import Fetcher
from network.http.responses import translate_error
from network.http.urls import Target
from network.streams.stream_events import (
    Connected,
    Disconnected,
    DisconnectReason,
    StreamEvent,
    StreamTimes,
)
from protocol.limits import MAX_FRAME_BYTES

_CLOSE_TIMEOUT: Final = 1.0
# Temporary refusals of the upgrade; other 3xx and 4xx, and 501, are final
# (specs/event-stream).
_PASSING_4XX: Final = frozenset((408, 425, 429))

_ENDED_BY_PEER: Final = frozenset((DisconnectReason.CLOSED, DisconnectReason.LOST))

Cursor: TypeAlias = int | Callable[[], int | None] | None


class StreamRefusedError(BadResponseError):
    """A response to the upgrade that no retry will change."""


class StreamClient:
    """A stream of raw frames: `async with … as stream: async for frame in stream`.

    `cursor` is the last processed sequence number, or a function that returns it at
    each connect; None starts at the tip. `on_event` is called at every connect and
    disconnect. With `text` only text frames are accepted, returned as UTF-8.

    Raises StreamRefusedError and ForbiddenAddressError. Raises UnreachableError after
    `max_failures` in a row without a contact: one good frame, or a connection that the
    peer held open for a while. So a stream that breaks often is still read. The
    iterator ends only by `aclose`.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        url: str,
        cursor: Cursor = None,
        *,
        on_event: Callable[[StreamEvent], None] | None = None,
        max_failures: int | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        text: bool = False,
        times: StreamTimes | None = None,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._fetcher = fetcher
        self._url = url
        self._cursor = cursor
        self._on_event = on_event
        self._max_failures = max_failures
        self._max_frame_bytes = max_frame_bytes
        self._text = text
        self._times = times or StreamTimes()
        self._fraction = fraction
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._connected_at = 0.0
        self._failures = 0
        self._fruitless = 0
        self._given = self._fruitful = False
        self._retry_in = 0.0
        self._closing = asyncio.Event()
        # The start of the wait for the next frame; infinity outside of a wait.
        self._waiting_since = math.inf
        self._silent = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Return the next frame; connect and reconnect as needed."""
        # A request for the next frame means that the last one was good.
        self._fruitful = self._fruitful or self._given
        if self._failures and self._lasted(self._times.stable_after):
            self._failures = 0
        while not self._closing.is_set():
            if self._socket is None:
                await self._connect()
                continue
            frame = await self._receive(self._socket)
            if frame is not None:
                self._given = True
                return frame
        await self._close_socket(aiohttp.WSCloseCode.GOING_AWAY)
        raise StopAsyncIteration

    async def drop(self, detail: str) -> None:
        """End this connection because of what came over it.

        The next frame comes from a new one, after the pause that failures earn.
        Raises UnreachableError if these were `max_failures` in a row.
        """
        if self._socket is not None:
            await self._close_socket(aiohttp.WSCloseCode.PROTOCOL_ERROR)
            self._fail(DisconnectReason.DROPPED, detail)

    async def aclose(self) -> None:
        """End the iteration, also one that waits in another task."""
        self._closing.set()
        await self._close_socket(aiohttp.WSCloseCode.GOING_AWAY)

    def _lasted(self, seconds: float) -> bool:
        lasted = time.monotonic() - self._connected_at
        return self._socket is not None and lasted >= seconds

    async def _close_socket(self, code: int) -> None:
        watch, self._watcher = self._watcher, None
        if watch is not None:
            watch.cancel()
        socket, self._socket = self._socket, None
        if socket is not None:
            await _close(socket, code)

    # Connecting.

    async def _connect(self) -> None:
        await self._wait_for_turn()
        if self._closing.is_set():
            return
        cursor = self._cursor() if callable(self._cursor) else self._cursor
        target = self._fetcher.policy.parse(_with_cursor(self._url, cursor))
        try:
            self._socket = await self._dial(target)
        except ForbiddenAddressError as error:
            self._tell(DisconnectReason.FORBIDDEN, str(error), None)
            raise
        except aiohttp.WSServerHandshakeError as error:
            self._handle_refusal(error, target)
        except TimedOutError as error:
            self._fail(DisconnectReason.TIMED_OUT, str(error))
        except NetworkError as error:
            self._fail(DisconnectReason.UNREACHABLE, str(error))
        else:
            self._connected_at = time.monotonic()
            self._waiting_since = math.inf
            self._silent = False
            self._watcher = asyncio.create_task(self._watch(self._socket))
            if self._on_event is not None:
                self._on_event(Connected(self._url, cursor))

    async def _wait_for_turn(self) -> None:
        target = self._fetcher.policy.parse(self._url)
        pause = max(self._retry_in, self._fetcher.budgets.paused_for(target.authority))
        await self._sleep(pause)
        # All streams of this process share one bucket, so that hundreds of dead hosts
        # do not cause a storm of connections.
        await self._sleep(self._fetcher.stream_dials.reserve(math.inf) or 0.0)

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closing.wait()

    async def _dial(self, target: Target) -> aiohttp.ClientWebSocketResponse:
        policy = self._fetcher.policy
        try:
            async with asyncio.timeout(
                policy.connect_timeout + policy.first_byte_timeout
            ):
                return await self._fetcher.stream_session.ws_connect(
                    target.to_yarl(),
                    # aiohttp refuses frames of exactly this size too.
                    max_msg_size=self._max_frame_bytes + 1,
                    compress=0,
                    autoping=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT),
                )
        except aiohttp.WSServerHandshakeError:
            raise
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise translate_error(error, str(target)) from error

    def _handle_refusal(
        self, error: aiohttp.WSServerHandshakeError, target: Target
    ) -> None:
        status = error.status
        detail = f"{status} {error.message}"
        if status == 501 or (300 <= status < 500 and status not in _PASSING_4XX):
            self._tell(DisconnectReason.REFUSED, detail, None)
            raise StreamRefusedError(f"{target} answered {status}", status)
        busy = status in (429, 503)
        if busy and (status == 429 or "Retry-After" in (error.headers or {})):
            policy = self._fetcher.policy
            wait = parse_retry_after(
                error.headers or {},
                now=time.time(),
                default=policy.default_retry_after,
                cap=policy.max_retry_after,
            )
            self._fetcher.budgets.pause(target.authority, wait)
        self._fail(
            DisconnectReason.BUSY if busy else DisconnectReason.SERVER_ERROR, detail
        )

    # Receiving.

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> bytes | None:
        """Return one frame, or None once the connection has ended."""
        while True:
            self._waiting_since = time.monotonic()
            message = await socket.receive()
            self._waiting_since = math.inf
            kind = message.type
            if kind is aiohttp.WSMsgType.BINARY and not self._text:
                data: bytes = message.data
                return data
            if kind is aiohttp.WSMsgType.TEXT and self._text:
                return str(message.data).encode()
            if kind is aiohttp.WSMsgType.PING:
                await self._pong(socket, message.data)
            elif kind is aiohttp.WSMsgType.PONG:
                continue
            elif self._silent:
                await self._end(DisconnectReason.SILENT, "no answer to a ping")
                return None
            elif kind in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                await self._end(
                    DisconnectReason.TEXT_FRAME,
                    "a binary frame" if self._text else "a text frame",
                    aiohttp.WSCloseCode.UNSUPPORTED_DATA,
                )
                return None
            else:
                await self._end_by(socket, message)
                return None

    async def _watch(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Ping a peer that is silent while we listen; close the connection without a
        pong.

        One timer for a connection: a timer for each frame would double the cost of
        reading.
        """
        times = self._times
        while True:
            since = self._waiting_since
            quiet = max(time.monotonic() - since, 0.0)
            if quiet < times.ping_after:
                await asyncio.sleep(times.ping_after - quiet)
                continue
            if await self._ping(socket):
                await asyncio.sleep(times.pong_within)
                if self._waiting_since != since:
                    continue
            self._silent = True
            await _close(socket, aiohttp.WSCloseCode.GOING_AWAY)
            return

    async def _ping(self, socket: aiohttp.ClientWebSocketResponse) -> bool:
        """Return False if a ping cannot be sent."""
        try:
            async with asyncio.timeout(self._times.pong_within):
                await socket.ping()
        except (TimeoutError, aiohttp.ClientError, OSError):
            return False
        return True

    async def _pong(self, socket: aiohttp.ClientWebSocketResponse, data: bytes) -> None:
        # The next receive detects a peer that pings and does not read.
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await socket.pong(data)

    async def _end_by(
        self, socket: aiohttp.ClientWebSocketResponse, message: aiohttp.WSMessage
    ) -> None:
        code = socket.close_code
        if message.type is aiohttp.WSMsgType.ERROR:
            if code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                detail = f"a frame over {self._max_frame_bytes} bytes"
                await self._end(DisconnectReason.OVERSIZE, detail)
            else:
                await self._end(DisconnectReason.LOST, str(message.data))
        elif message.type is aiohttp.WSMsgType.CLOSE:
            await self._end(DisconnectReason.CLOSED, f"closed with code {code}")
        else:
            await self._end(DisconnectReason.LOST, f"connection ended ({code})")

    async def _end(
        self,
        reason: DisconnectReason,
        detail: str,
        code: int = aiohttp.WSCloseCode.GOING_AWAY,
    ) -> None:
        if self._lasted(self._times.stable_after):
            self._failures = 0
        # Proxies cut idle connections.
        if reason in _ENDED_BY_PEER and self._lasted(self._times.contact_after):
            self._fruitful = True
        await self._close_socket(code)
        if not self._closing.is_set():
            self._fail(reason, detail)

    def _fail(self, reason: DisconnectReason, detail: str) -> None:
        self._failures += 1
        self._fruitless = 0 if self._fruitful else self._fruitless + 1
        self._given = self._fruitful = False
        if self._max_failures is not None and self._fruitless >= self._max_failures:
            self._tell(reason, detail, None)
            raise UnreachableError(
                f"{self._url} failed {self._fruitless} times, at last: {detail}"
            )
        self._retry_in = self._times.pause(self._failures, self._fraction())
        self._tell(reason, detail, self._retry_in)

    def _tell(
        self, reason: DisconnectReason, detail: str, retry_in: float | None
    ) -> None:
        if self._on_event is not None:
            self._on_event(
                Disconnected(self._url, reason, detail, self._failures, retry_in)
            )


async def _close(socket: aiohttp.ClientWebSocketResponse, code: int) -> None:
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await socket.close(code=code)


def _with_cursor(url: str, cursor: int | None) -> str:
    if cursor is None:
        return url
    return f"{url}{'&' if '?' in url else '?'}cursor={cursor}"
