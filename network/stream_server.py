"""Serving an event stream: replay from a cursor, then live (specs/event-stream).

One feeder reads the source for all subscribers into a bounded ring of recent frames.
A subscriber holds a position, not a queue: behind the ring it reads the source page by
page, and one that was live and falls behind the ring is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from protocol.frames import encode_error_frame, encode_frame

log = logging.getLogger(__name__)

INFO: Final = "#info"
OUTDATED_CURSOR: Final = "OutdatedCursor"
FUTURE_CURSOR: Final = "FutureCursor"
CONSUMER_TOO_SLOW: Final = "ConsumerTooSlow"

_POLICY_VIOLATION: Final = 1008
_TRY_AGAIN_LATER: Final = 1013
_LAST_WORDS: Final = 1.0


class EventSource(Protocol):
    """Events with rising sequence numbers, kept for a window of time."""

    async def tail(self) -> int:
        """The highest sequence number there is, 0 if there is none."""
        ...

    async def oldest(self) -> int:
        """The lowest sequence number still kept, 0 if there is none."""
        ...

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """At most `limit` (seq, encoded frame) above `seq`, in order."""
        ...


class _Ring:
    """The frames of late, bounded by number and by bytes; `floor` is just below."""

    def __init__(self, floor: int, max_frames: int, max_bytes: int) -> None:
        self.floor = floor
        self.last = floor
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._seqs: list[int] = []
        self._frames: list[bytes] = []
        self._bytes = 0

    def extend(self, events: Sequence[tuple[int, bytes]]) -> None:
        for seq, frame in events:
            self._seqs.append(seq)
            self._frames.append(frame)
            self._bytes += len(frame)
        self.last = self._seqs[-1]
        drop = 0
        while (
            len(self._seqs) - drop > self._max_frames or self._bytes > self._max_bytes
        ) and drop < len(self._seqs) - 1:
            self._bytes -= len(self._frames[drop])
            drop += 1
        if drop:
            self.floor = self._seqs[drop - 1]
            del self._seqs[:drop], self._frames[:drop]

    def after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        start = bisect_right(self._seqs, seq)
        stop = start + limit
        return list(zip(self._seqs[start:stop], self._frames[start:stop], strict=True))


class _TooSlowError(Exception):
    """A subscriber that does not keep up."""


class StreamServer:
    """Give it to `XrpcServer.route_subscription`; call `wake` after each commit.

    `poll` seconds after the last look the source is asked anyway, for events that
    another process wrote. `send_timeout` is how long one frame may stay unread.
    """

    def __init__(
        self,
        source: EventSource,
        *,
        poll: float = 1.0,
        page: int = 200,
        ring_frames: int = 5_000,
        ring_bytes: int = 64_000_000,
        send_timeout: float = 20.0,
        max_subscribers: int = 1_000,
    ) -> None:
        self._source = source
        self._poll = poll
        self._page = page
        self._ring_limits = (ring_frames, ring_bytes)
        self._send_timeout = send_timeout
        self._max_subscribers = max_subscribers
        self._ring: _Ring | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._grown = asyncio.Event()
        self._subscribers = 0

    @property
    def subscribers(self) -> int:
        """Connections being served now."""
        return self._subscribers

    def wake(self) -> None:
        """Tell that there are new events. May be called from any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(self._woken.set)

    async def __call__(self, websocket: WebSocket, params: Mapping[str, Any]) -> None:
        await websocket.accept()
        if self._subscribers >= self._max_subscribers:
            await websocket.close(_TRY_AGAIN_LATER)
            return
        self._subscribers += 1
        try:
            ring = await self._join()
            await self._serve(websocket, params.get("cursor"), ring)
        except (WebSocketDisconnect, OSError):
            pass  # gone; it will come back with its cursor
        finally:
            self._subscribers -= 1
            if self._subscribers == 0:
                self._stop_feeder()

    # The feeder, shared by all.

    async def _join(self) -> _Ring:
        if self._ring is None:
            tail = await self._source.tail()
            # Another subscriber may have been here while the source was asked.
            if self._ring is None:
                self._ring = _Ring(tail, *self._ring_limits)
        if self._feeder is None or self._feeder.done():
            self._loop = asyncio.get_running_loop()
            self._feeder = asyncio.create_task(self._feed(self._ring))
        return self._ring

    def _stop_feeder(self) -> None:
        if self._feeder is not None:
            self._feeder.cancel()
        self._feeder = self._ring = None

    async def _feed(self, ring: _Ring) -> None:
        while True:
            self._woken.clear()
            try:
                events = await self._source.events_after(ring.last, self._page)
            except Exception:
                # The database may be away for a while; subscribers wait with us.
                log.exception("event source failed")
                events = ()
            if events:
                ring.extend(events)
                self._grown.set()
                self._grown = asyncio.Event()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._woken.wait()

    # One subscriber.

    async def _serve(
        self, websocket: WebSocket, cursor: int | None, ring: _Ring
    ) -> None:
        sender = asyncio.create_task(self._send_from(websocket, cursor, ring))
        listener = asyncio.create_task(_wait_for_end(websocket))
        try:
            await asyncio.wait((sender, listener), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, listener):
                task.cancel()
            results = await asyncio.gather(sender, listener, return_exceptions=True)
        if isinstance(results[0], _TooSlowError):
            await _cut_off(websocket)
        elif isinstance(results[0], Exception):
            raise results[0]

    async def _send_from(
        self, websocket: WebSocket, cursor: int | None, ring: _Ring
    ) -> None:
        position = await self._start(websocket, cursor, ring)
        if position is None:
            return
        live = False
        while True:
            grown = self._grown
            if position >= ring.floor:
                live = True
                events: Sequence[tuple[int, bytes]] = ring.after(position, self._page)
            elif live:
                raise _TooSlowError
            else:
                events = await self._source.events_after(position, self._page)
            if events:
                await self._send_all(websocket, [frame for _, frame in events])
                position = events[-1][0]
            elif live:
                await grown.wait()
            else:
                # The source kept nothing between here and the ring.
                position = ring.floor

    async def _start(
        self, websocket: WebSocket, cursor: int | None, ring: _Ring
    ) -> int | None:
        """The position to send from, or None if the cursor was refused."""
        if cursor is None:
            return ring.last
        tail = max(ring.last, await self._source.tail())
        if cursor > tail:
            frame = encode_error_frame(FUTURE_CURSOR, "cursor is ahead of the stream")
            await self._send_all(websocket, [frame])
            await websocket.close(_POLICY_VIOLATION)
            return None
        oldest = await self._source.oldest()
        if 0 < cursor < oldest - 1:
            frame = encode_frame(
                INFO,
                {
                    "name": OUTDATED_CURSOR,
                    "message": "cursor is older than what is kept",
                },
            )
            await self._send_all(websocket, [frame])
            return oldest - 1
        return max(cursor, 0)

    async def _send_all(self, websocket: WebSocket, frames: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline:
                for frame in frames:
                    deadline.reschedule(loop.time() + self._send_timeout)
                    await websocket.send_bytes(frame)
        except TimeoutError:
            raise _TooSlowError from None


async def _wait_for_end(websocket: WebSocket) -> None:
    """Returns when the subscriber leaves; what it may say meanwhile is not heard."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _cut_off(websocket: WebSocket) -> None:
    """Say why, if the socket takes it, and close."""
    frame = encode_error_frame(CONSUMER_TOO_SLOW, "events were not read in time")
    with contextlib.suppress(TimeoutError, WebSocketDisconnect, OSError, RuntimeError):
        async with asyncio.timeout(_LAST_WORDS):
            await websocket.send_bytes(frame)
            await websocket.close(_POLICY_VIOLATION)
