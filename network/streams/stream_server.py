"""The server of an event stream: replay from a cursor, then live (specs/event-stream).

A live subscriber that falls behind the ring, or leaves a frame unread for too long,
gets an error frame and is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from network.streams.event_feed import EventFeed, EventSource, Ring, TooSlowError
from protocol.events.frames import INFO, encode_error_frame, encode_frame

OUTDATED_CURSOR: Final = "OutdatedCursor"
FUTURE_CURSOR: Final = "FutureCursor"
CONSUMER_TOO_SLOW: Final = "ConsumerTooSlow"

POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013
_LAST_WORDS: Final = 1.0


class StreamServer:
    """The handler of a subscription for `XrpcServer.route_subscription`.

    `source` returns encoded frames. `send_timeout` is how long one frame may stay
    unread; `poll`, `page` and the bounds of the ring are those of `EventFeed`.
    """

    def __init__(
        self,
        source: EventSource[bytes],
        *,
        poll: float = 1.0,
        page: int = 200,
        ring_frames: int = 5_000,
        ring_bytes: int = 64_000_000,
        send_timeout: float = 20.0,
        max_subscribers: int = 1_000,
    ) -> None:
        self._feed: EventFeed[bytes] = EventFeed(
            source, poll=poll, page=page, ring_events=ring_frames, ring_bytes=ring_bytes
        )
        self._send_timeout = send_timeout
        self._max_subscribers = max_subscribers

    @property
    def subscribers(self) -> int:
        """Return the number of open subscriptions."""
        return self._feed.followers

    def wake(self) -> None:
        """Announce new events; call it after each commit. Safe in threads."""
        self._feed.wake()

    async def __call__(self, websocket: WebSocket, params: Mapping[str, Any]) -> None:
        if self.subscribers >= self._max_subscribers:
            await websocket.accept()
            await websocket.close(TRY_AGAIN_LATER)
            return
        try:
            # Join before accepting, so that no event after the connect is missed.
            ring = await self._feed.join()
            tip = ring.last
            await websocket.accept()
            await self._serve(websocket, params.get("cursor"), ring, tip)
        except (WebSocketDisconnect, OSError):
            pass  # the client will reconnect with its cursor
        finally:
            self._feed.leave()

    async def _serve(
        self, websocket: WebSocket, cursor: int | None, ring: Ring[bytes], tip: int
    ) -> None:
        sender = asyncio.create_task(self._send_from(websocket, cursor, ring, tip))
        listener = asyncio.create_task(_wait_for_end(websocket))
        try:
            await asyncio.wait((sender, listener), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, listener):
                task.cancel()
            results = await asyncio.gather(sender, listener, return_exceptions=True)
        if isinstance(results[0], TooSlowError):
            await _cut_off(websocket)
        elif isinstance(results[0], Exception):
            raise results[0]

    async def _send_from(
        self, websocket: WebSocket, cursor: int | None, ring: Ring[bytes], tip: int
    ) -> None:
        position: int | None = tip
        if cursor is not None:
            position = await self._start(websocket, cursor, ring)
        live = False
        while position is not None:
            events, live = await self._feed.next_events(ring, position, live=live)
            await self._send_all(websocket, [frame for _, frame in events])
            position = events[-1][0]

    async def _start(
        self, websocket: WebSocket, cursor: int, ring: Ring[bytes]
    ) -> int | None:
        """Return the position to send from, or None if the cursor was refused."""
        tail = max(ring.last, await self._feed.source.tail())
        if cursor > tail:
            frame = encode_error_frame(FUTURE_CURSOR, "cursor is ahead of the stream")
            await self._send_all(websocket, [frame])
            await websocket.close(POLICY_VIOLATION)
            return None
        oldest = await self._feed.source.oldest()
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
        return max(cursor, oldest - 1, 0)

    async def _send_all(self, websocket: WebSocket, frames: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline:
                for frame in frames:
                    deadline.reschedule(loop.time() + self._send_timeout)
                    await websocket.send_bytes(frame)
        except TimeoutError:
            raise TooSlowError from None


async def _wait_for_end(websocket: WebSocket) -> None:
    """Wait until the subscriber disconnects; its messages are ignored."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _cut_off(websocket: WebSocket) -> None:
    """Send the reason, if the socket accepts it, and close."""
    frame = encode_error_frame(CONSUMER_TOO_SLOW, "events were not read in time")
    with contextlib.suppress(TimeoutError, WebSocketDisconnect, OSError, RuntimeError):
        async with asyncio.timeout(_LAST_WORDS):
            await websocket.send_bytes(frame)
            await websocket.close(POLICY_VIOLATION)
