"""The export as a WebSocket: every accepted operation, from a cursor on.

The database is the buffer: a stream reads pages from where it is, so a slow reader
costs one page of memory. Each message is one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Final

import orjson
import psycopg
from anyio import to_thread
from psycopg_pool import PoolTimeout
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from network.server.admission import client_key
from plc.ledger import SequencedEntry, export_after_seq, newest_seq, parse_number
from plc.operation import DAY_MS
from storage.postgres.pool import Pool

FUTURE_CURSOR: Final = "FutureCursor"
OUTDATED_CURSOR: Final = "OutdatedCursor"
CONSUMER_TOO_SLOW: Final = "ConsumerTooSlow"
UNAVAILABLE: Final = "Unavailable"

CATCH_UP_MS: Final = 7 * DAY_MS
PAGE: Final = 500
MAX_STREAMS: Final = 64
STREAMS_OF_ONE_CLIENT: Final = 8
# Rings in this process come at once; what another process accepted is seen by asking.
POLL_S: Final = 1.0
SEND_TIMEOUT_S: Final = 30.0

# What the reference directory closes with; the reason tells.
_CLOSE_NORMAL: Final = 1000
_CLOSE_TRY_LATER: Final = 1013
_TRY_AGAIN: Final = (429, 503)

_DATABASE_AWAY: Final = (PoolTimeout, psycopg.OperationalError)


class Bell:
    """Wakes everyone who waits, and keeps nothing."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    @property
    def next_ring(self) -> asyncio.Event:
        """Set at the next ring. Take it before looking for news: a ring that comes
        while one looks is not missed then."""
        return self._event


class ExportStream:
    """The `/export/stream` endpoint. `now_ms` is the directory's clock."""

    def __init__(
        self,
        pool: Pool,
        bell: Bell,
        now_ms: Callable[[], int],
        *,
        poll_s: float = POLL_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._pool = pool
        self._bell = bell
        self._now_ms = now_ms
        self._poll_s = poll_s
        self._send_timeout_s = send_timeout_s
        self._clients: Counter[str] = Counter()

    async def serve(self, socket: WebSocket) -> None:
        """Serves one reader until it leaves, falls behind, or asks for the wrong."""
        text = socket.query_params.get("cursor")
        if text is not None and parse_number(text) is None:
            await _deny(socket, 400, "Invalid cursor parameter")
            return
        if self._clients.total() >= MAX_STREAMS:
            await _deny(socket, 503, "Too many streams")
            return
        client = client_key(socket.scope)
        if self._clients[client] >= STREAMS_OF_ONE_CLIENT:
            await _deny(socket, 429, "Too many streams of one client")
            return
        self._clients[client] += 1
        try:
            # Looked up first: what comes in after we accept is the reader's.
            newest = await to_thread.run_sync(self._newest)
            await socket.accept()
            cursor = None if text is None else parse_number(text)
            await self._run(socket, newest if cursor is None else cursor, newest)
        except _DATABASE_AWAY:
            await _deny(socket, 503, UNAVAILABLE)
        finally:
            self._clients -= Counter({client: 1})

    async def _run(self, socket: WebSocket, position: int, newest: int) -> None:
        # A reader says nothing, but its leaving is only seen by listening.
        left = asyncio.create_task(_until_left(socket))
        sending = asyncio.create_task(self._send(socket, position, newest))
        code = _CLOSE_NORMAL
        try:
            await asyncio.wait((left, sending), return_when=asyncio.FIRST_COMPLETED)
            reason = sending.result() if sending.done() else None
        except _DATABASE_AWAY:
            code, reason = _CLOSE_TRY_LATER, UNAVAILABLE
        finally:
            for task in (left, sending):
                task.cancel()
            await asyncio.gather(left, sending, return_exceptions=True)
        if reason is not None:
            # To a reader that takes nothing, not even the reason can be said.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._send_timeout_s):
                    await socket.close(code, reason)

    async def _send(self, socket: WebSocket, position: int, newest: int) -> str | None:
        """Sends until it must close: the reason, or None when the reader left."""
        if position > newest:
            return FUTURE_CURSOR
        ring = self._bell.next_ring
        page = await to_thread.run_sync(self._page, position)
        if page and page[0].entry.created_ms < self._now_ms() - CATCH_UP_MS:
            return OUTDATED_CURSOR
        while True:
            for row in page:
                message = orjson.dumps(row.to_json()).decode()
                try:
                    async with asyncio.timeout(self._send_timeout_s):
                        await socket.send_text(message)
                except TimeoutError:
                    return CONSUMER_TOO_SLOW
                except WebSocketDisconnect:
                    return None
                position = row.seq
            if len(page) < PAGE:
                await _wait(ring, self._poll_s)
            ring = self._bell.next_ring
            page = await to_thread.run_sync(self._page, position)

    def _newest(self) -> int:
        with self._pool.connection() as conn:
            return newest_seq(conn)

    def _page(self, after: int) -> list[SequencedEntry]:
        with self._pool.connection() as conn:
            return export_after_seq(conn, after, PAGE)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()


async def _until_left(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _deny(socket: WebSocket, status: int, message: str) -> None:
    headers = {"Retry-After": "60"} if status in _TRY_AGAIN else None
    await socket.send_denial_response(
        JSONResponse({"message": message}, status, headers)
    )
