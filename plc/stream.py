"""The export as a WebSocket: every accepted operation from a cursor on.

A stream reads pages from the database, so a slow reader costs one page of memory. Each
message is one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Final

import orjson
import psycopg
from psycopg_pool import PoolTimeout
from starlette.concurrency import run_in_threadpool
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
# Operations that another process accepted are found by polling.
POLL_S: Final = 1.0
SEND_TIMEOUT_S: Final = 30.0

# As the reference directory; the close reason names the error.
_CLOSE_NORMAL: Final = 1000
_CLOSE_TRY_LATER: Final = 1013
_TRY_AGAIN: Final = (429, 503)

_DATABASE_AWAY: Final = (PoolTimeout, psycopg.OperationalError)


class ExportStream:
    """The `/export/stream` endpoint; `now_ms` is the directory's clock."""

    def __init__(
        self,
        pool: Pool,
        now_ms: Callable[[], int],
        *,
        poll_s: float = POLL_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._pool = pool
        self._now_ms = now_ms
        self._poll_s = poll_s
        self._send_timeout_s = send_timeout_s
        self._clients: Counter[str] = Counter()
        self._new_entries = asyncio.Event()

    def notify(self) -> None:
        """Wake all streams after an operation was accepted."""
        self._new_entries.set()
        self._new_entries = asyncio.Event()

    async def serve(self, socket: WebSocket) -> None:
        """Serve one reader until it leaves, falls behind or is refused."""
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
            # Before accepting, so that the reader gets every later operation.
            newest = await run_in_threadpool(self._newest)
            await socket.accept()
            cursor = None if text is None else parse_number(text)
            await self._run(socket, newest if cursor is None else cursor, newest)
        except _DATABASE_AWAY:
            await _deny(socket, 503, UNAVAILABLE)
        finally:
            self._clients -= Counter({client: 1})

    async def _run(self, socket: WebSocket, position: int, newest: int) -> None:
        # A disconnect is only noticed by receiving.
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
            # A reader that does not read cannot be closed either.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._send_timeout_s):
                    await socket.close(code, reason)

    async def _send(self, socket: WebSocket, position: int, newest: int) -> str | None:
        """Send until the stream closes; return the reason, None if the reader left."""
        if position > newest:
            return FUTURE_CURSOR
        # Taken before reading, so that no notification is missed.
        new_entries = self._new_entries
        page = await run_in_threadpool(self._page, position)
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
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await new_entries.wait()
            new_entries = self._new_entries
            page = await run_in_threadpool(self._page, position)

    def _newest(self) -> int:
        with self._pool.connection() as conn:
            return newest_seq(conn)

    def _page(self, after: int) -> list[SequencedEntry]:
        with self._pool.connection() as conn:
            return export_after_seq(conn, after, PAGE)


async def _until_left(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _deny(socket: WebSocket, status: int, message: str) -> None:
    headers = {"Retry-After": "60"} if status in _TRY_AGAIN else None
    await socket.send_denial_response(
        JSONResponse({"message": message}, status, headers)
    )
