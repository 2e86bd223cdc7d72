"""`/subscribe`, as Jetstream serves it: filtered JSON over a WebSocket.

A cursor is a time in Unix microseconds, that moment included; one that is in the
future, or none, begins with what comes next. Each message has a time of its own, those
of one commit too: readers take what is no later than their last message for a repeat.
`compress=true` sends each message as a
zstd frame of its own. Jetstream's own dictionary is not used: a reader that has it
set can read these frames all the same, they are only larger.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence, Sized
from typing import Final, TypeVar

import anyio
import zstandard
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from mirror.jetstream_events import Message, Moment
from mirror.jetstream_options import (
    BadOptionsError,
    Options,
    read_query,
    read_update,
)
from mirror.outgoing_events import SentEvents
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
_LAST_WORDS: Final = 1.0
_LARGE: Final = 16_384

S = TypeVar("S", bound=Sized)
T = TypeVar("T")


class Jetstream:
    """The endpoint: make a `WebSocketRoute(PATH, ...)` of it.

    `send_timeout` is how long one message may stay unread; `poll` is how often the
    log is asked, in seconds.
    """

    def __init__(
        self,
        source: SentEvents[Moment],
        *,
        poll: float = 1.0,
        ring_events: int = 5_000,
        ring_bytes: int = 32_000_000,
        send_timeout: float = 20.0,
        max_subscribers: int = 1_000,
    ) -> None:
        self._source = source
        self._feed: EventFeed[Moment] = EventFeed(
            source, poll=poll, ring_events=ring_events, ring_bytes=ring_bytes
        )
        self._send_timeout = send_timeout
        self._max_subscribers = max_subscribers

    @property
    def subscribers(self) -> int:
        """Connections being served now."""
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
            # Before the connection stands: of what happens from then on nothing may be
            # missed.
            ring = await self._feed.join()
            tip = ring.last
            await websocket.accept()
            await self._serve(subscriber, cursor, ring, tip)
        except (WebSocketDisconnect, OSError):
            pass  # gone; it will come back with its cursor
        finally:
            self._feed.leave()

    async def _serve(
        self,
        subscriber: _Subscriber,
        cursor: int | None,
        ring: Ring[Moment],
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
        ring: Ring[Moment],
        position: int,
    ) -> None:
        if cursor is not None:
            tail = await self._source.tail()
            position = await self._source.seq_at(cursor)
            if position < tail:
                # Not of the future: it may be of a message amid the next commit.
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
    """One connection: what it wants, and how it is written to."""

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

    async def send(self, moment: Moment) -> None:
        """Send what is wanted of it. Raises TooSlowError."""
        options = self.options
        if not options.wants_account(moment.did):
            return
        for message in await _made(moment, _messages_of):
            if message.time_us < self.since:
                continue
            if not options.wants_collection(message.collection):
                continue
            data = await _made(message, _data_of)
            if not data or (options.max_bytes and len(data) > options.max_bytes):
                continue
            try:
                async with asyncio.timeout(self._timeout):
                    await self._write(data)
            except TimeoutError:
                raise TooSlowError from None

    async def listen(self) -> None:
        """Take new options until the connection ends. Raises BadOptionsError."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            # Binary messages mean nothing.
            options = None if text is None else read_update(text)
            if options is not None:
                self.options = options
                self.ready.set()

    async def close(self, code: int, reason: str) -> None:
        """Say why and end, if the socket takes it."""
        with contextlib.suppress(
            TimeoutError, WebSocketDisconnect, OSError, RuntimeError
        ):
            async with asyncio.timeout(_LAST_WORDS):
                await self._websocket.close(code, reason)

    async def _write(self, data: bytes) -> None:
        if self._compressor is None:
            await self._websocket.send_text(data.decode())
        else:
            await self._websocket.send_bytes(self._compressor.compress(data))


async def _made(of: S, make: Callable[[S], T]) -> T:
    """What is made of something; if that is large in a thread, while others go on."""
    return make(of) if len(of) < _LARGE else await anyio.to_thread.run_sync(make, of)


def _messages_of(moment: Moment) -> Sequence[Message]:
    return moment.messages


def _data_of(message: Message) -> bytes:
    return message.data


def _read_cursor(text: str | None) -> int | None:
    if text is None or text == "":
        return None
    if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) or int(text) > MAX_INT:
        raise BadOptionsError("cursor is not a time in microseconds")
    return max(0, int(text))
