"""`/subscribe` in the form of Jetstream: filtered JSON over a WebSocket.

A cursor is a time in Unix microseconds, that moment included. Without one, or with one
in the future, the stream begins with the next event. No two messages have the same
time, also within one commit: readers drop what is not later than their last message.

`compress=true` sends each message as a zstd frame of its own, without Jetstream's
dictionary. Readers with the dictionary read these frames too.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Sized
from operator import attrgetter
from typing import Final, TypeVar

import anyio
import zstandard
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from mirror.jetstream_events import EventMessages
from mirror.jetstream_options import BadOptionsError, Options, read_query, read_update
from mirror.outgoing_events import OutgoingEvents
from network.streams.event_feed import EventFeed, Ring, TooSlowError
from network.streams.stream_server import (
    CONSUMER_TOO_SLOW,
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
)
from protocol.limits import MAX_INT

PATH: Final = "/subscribe"
_UNSUPPORTED: Final = 1003
_LEVEL: Final = 1
_TRUE: Final = "true"
_CLOSE_TIMEOUT_S: Final = 1.0
_LARGE: Final = 16_384

S = TypeVar("S", bound=Sized)
T = TypeVar("T")


class Jetstream:
    """The endpoint, for a `WebSocketRoute(PATH, ...)`.

    `send_timeout` is the time that a message may stay unread. `poll` is the interval of
    reading the log, in seconds.
    """

    def __init__(
        self,
        source: OutgoingEvents[EventMessages],
        *,
        poll: float = 1.0,
        ring_events: int = 5_000,
        ring_bytes: int = 32_000_000,
        send_timeout: float = 20.0,
        max_subscribers: int = 1_000,
    ) -> None:
        self._source = source
        self._feed: EventFeed[EventMessages] = EventFeed(
            source, poll=poll, ring_events=ring_events, ring_bytes=ring_bytes
        )
        self._send_timeout = send_timeout
        self._max_subscribers = max_subscribers

    @property
    def subscribers(self) -> int:
        """Return the number of open connections."""
        return self._feed.followers

    async def __call__(self, websocket: WebSocket) -> None:
        query = websocket.query_params
        try:
            options = read_query(query.multi_items())
            cursor = _read_cursor(query.get("cursor"))
        except BadOptionsError as error:
            await websocket.send_denial_response(
                PlainTextResponse(str(error), status_code=400)
            )
            return
        if self.subscribers >= self._max_subscribers:
            await websocket.accept()
            await websocket.close(TRY_AGAIN_LATER)
            return
        compress = (
            query.get("compress") == _TRUE
            or "zstd" in websocket.headers.get("socket-encoding", "").lower()
        )
        subscriber = _Subscriber(websocket, options, compress, self._send_timeout)
        if query.get("requireHello") == _TRUE:
            subscriber.ready.clear()
        try:
            # Before accepting: every event after it must be sent.
            ring = await self._feed.join()
            tip = ring.last
            await websocket.accept()
            await self._serve(subscriber, cursor, ring, tip)
        except (WebSocketDisconnect, OSError):
            pass  # gone; it reconnects with its cursor
        finally:
            self._feed.leave()

    async def _serve(
        self,
        subscriber: _Subscriber,
        cursor: int | None,
        ring: Ring[EventMessages],
        tip: int,
    ) -> None:
        sender = asyncio.create_task(self._send_from(subscriber, cursor, ring, tip))
        listener = asyncio.create_task(subscriber.listen())
        tasks = (sender, listener)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, TooSlowError):
                await subscriber.close(POLICY_VIOLATION, CONSUMER_TOO_SLOW)
            elif isinstance(result, BadOptionsError):
                await subscriber.close(_UNSUPPORTED, str(result)[:100])
            elif isinstance(result, Exception):
                raise result

    async def _send_from(
        self,
        subscriber: _Subscriber,
        cursor: int | None,
        ring: Ring[EventMessages],
        position: int,
    ) -> None:
        if cursor is not None:
            tail = await self._source.tail()
            position = await self._source.seq_at(cursor)
            if position < tail:
                # The cursor may be inside the next commit.
                subscriber.since = cursor
            oldest = await self._source.oldest()
            position = max(position, oldest - 1)
        await subscriber.ready.wait()
        live = False
        while True:
            moments, live = await self._feed.next_events(ring, position, live=live)
            for _, moment in moments:
                await subscriber.send(moment)
            position = moments[-1][0]


class _Subscriber:
    """A connection with its options."""

    def __init__(
        self,
        websocket: WebSocket,
        options: Options,
        compress: bool,
        send_timeout: float,
    ) -> None:
        self.options = options
        self.since = 0
        self.ready = asyncio.Event()
        self.ready.set()
        self._websocket = websocket
        self._timeout = send_timeout
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL) if compress else None

    async def send(self, moment: EventMessages) -> None:
        """Send the wanted messages of an event. Raises TooSlowError."""
        options = self.options
        if not options.wants_account(moment.did):
            return
        for message in await _make_in_thread_if_large(moment, attrgetter("messages")):
            if message.time_us < self.since:
                continue
            if not options.wants_collection(message.collection):
                continue
            data = await _make_in_thread_if_large(message, attrgetter("data"))
            if not data or (options.max_bytes and len(data) > options.max_bytes):
                continue
            try:
                async with asyncio.timeout(self._timeout):
                    await self._write(data)
            except TimeoutError:
                raise TooSlowError from None

    async def listen(self) -> None:
        """Read new options until the connection ends. Raises BadOptionsError."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            # Binary messages are ignored.
            options = None if text is None else read_update(text)
            if options is not None:
                self.options = options
                self.ready.set()

    async def close(self, code: int, reason: str) -> None:
        """Close the socket with a reason, if it is still open."""
        with contextlib.suppress(
            TimeoutError, WebSocketDisconnect, OSError, RuntimeError
        ):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._websocket.close(code, reason)

    async def _write(self, data: bytes) -> None:
        if self._compressor is None:
            await self._websocket.send_text(data.decode())
        else:
            await self._websocket.send_bytes(self._compressor.compress(data))


async def _make_in_thread_if_large(of: S, make: Callable[[S], T]) -> T:
    """Return the result of `make`, computed in a thread for a large input."""
    return make(of) if len(of) < _LARGE else await anyio.to_thread.run_sync(make, of)


def _read_cursor(text: str | None) -> int | None:
    if text is None or text == "":
        return None
    if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) or int(text) > MAX_INT:
        raise BadOptionsError("cursor is not a time in microseconds")
    return max(0, int(text))
