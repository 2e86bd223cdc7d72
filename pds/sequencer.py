"""The event log: numbers, stores and hands out the frames of the stream.

`append` runs inside the transaction of the change that it tells of, as its last step:
it takes the lock of the one `sequencer` row, which only that transaction's end
releases. So a lower number never becomes visible after a higher one, a number that was
rolled back was never seen, and one that was seen is never given again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from pds.accounts import Connection, utc_text
from pds.frames import Message

CHANNEL = "pds_event"

_READ_LIMIT = 200
# Frames of up to 2 MB: what is kept for those who follow the tip is bounded in bytes.
_RECENT_BYTES = 16 * 1024 * 1024
_READ_BYTES = 4 * 1024 * 1024
# A lost notification delays an event by this much and no more.
_POLL_SECONDS = 1.0
_RETRY_SECONDS = 1.0


# Up to so many events and about so many bytes, but at least one event.
_READ = """
    SELECT seq, frame FROM (
        SELECT seq, frame, sum(octet_length(frame)) OVER (ORDER BY seq) AS total
        FROM (
            SELECT seq, frame FROM event WHERE seq > %s ORDER BY seq LIMIT %s
        ) AS next
    ) AS sized
    WHERE total - octet_length(frame) < %s ORDER BY seq
"""


def append(
    conn: Connection, account: int, messages: Sequence[Message], now: datetime
) -> int:
    """Store these messages as the next events; the number of the last one.

    Must be the last statements of the transaction.
    """
    row = conn.execute(
        "UPDATE sequencer SET last_seq = last_seq + %s RETURNING last_seq",
        [len(messages)],
    ).fetchone()
    assert row is not None
    last = int(row[0])
    time = utc_text(now)
    rows = [
        (seq, account, message.kind, message.encode(seq, time), now)
        for seq, message in enumerate(messages, last - len(messages) + 1)
    ]
    with conn.pipeline(), conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO event (seq, account, kind, frame, created_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            rows,
        )
        cursor.execute(f"NOTIFY {CHANNEL}")
    return last


def prune(conn: Connection, before: datetime) -> int:
    """Forget events older than the backfill window; how many went."""
    return conn.execute("DELETE FROM event WHERE created_at < %s", [before]).rowcount


class EventLog:
    """What subscribers read: the stored log, and its tip as it grows.

    One task listens for new events and keeps the latest frames in memory, so a hundred
    subscribers at the tip cost one query. A subscriber further back reads the table.
    `start` before use, `stop` at the end.
    """

    def __init__(self, pool: ConnectionPool[Connection]) -> None:
        assert isinstance(pool.conninfo, str)
        self._pool = pool
        self._conninfo = pool.conninfo
        self._recent: deque[tuple[int, bytes]] = deque()
        self._recent_bytes = 0
        self._last = 0
        self._grown = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    @property
    def last_seq(self) -> int:
        """The newest number that has been read."""
        return self._last

    async def start(self) -> None:
        self._last = await asyncio.to_thread(self._stored_last)
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh_last(self) -> int:
        """The newest committed number, from the database itself."""
        stored = await asyncio.to_thread(self._stored_last)
        return max(stored, self._last)

    async def oldest(self) -> int | None:
        """The oldest number still stored; None for an empty log."""
        return await asyncio.to_thread(self._stored_oldest)

    async def read(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """Every event above `after` in order, then each new one; never ends."""
        while True:
            tip = self._last
            batch = await self._batch(after) if after < tip else []
            for seq, frame in batch:
                yield seq, frame
                after = seq
            if batch:
                continue
            # The numbers up to the tip may be gone with a deleted account.
            after = max(after, tip)
            await self.wait_beyond(after)

    async def wait_beyond(self, seq: int) -> None:
        """Until the log has grown past `seq`."""
        async with self._grown:
            await self._grown.wait_for(lambda: self._last > seq)

    async def _batch(self, after: int) -> list[tuple[int, bytes]]:
        recent = self._recent
        if recent and recent[0][0] <= after + 1:
            found = []
            for item in reversed(recent):
                if item[0] <= after:
                    break
                found.append(item)
            return found[: -_READ_LIMIT - 1 : -1]
        return await asyncio.to_thread(self._stored, after)

    async def _follow(self) -> None:
        while True:
            with suppress(psycopg.OperationalError):
                await self._listen()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self) -> None:
        conn = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        async with conn:
            await conn.execute(f"LISTEN {CHANNEL}")
            while True:
                while await self._fetch(conn):
                    pass
                async for _ in conn.notifies(timeout=_POLL_SECONDS, stop_after=1):
                    pass

    async def _fetch(self, conn: psycopg.AsyncConnection[Any]) -> bool:
        """Read what is new; whether there was anything."""
        cursor = await conn.execute(_READ, [self._last, _READ_LIMIT, _READ_BYTES])
        rows = await cursor.fetchall()
        if not rows:
            return False
        async with self._grown:
            for seq, frame in rows:
                self._recent.append((seq, frame))
                self._recent_bytes += len(frame)
            while self._recent_bytes > _RECENT_BYTES:
                self._recent_bytes -= len(self._recent.popleft()[1])
            self._last = rows[-1][0]
            self._grown.notify_all()
        return True

    def _stored(self, after: int) -> list[tuple[int, bytes]]:
        with self._pool.connection() as conn:
            return conn.execute(_READ, [after, _READ_LIMIT, _READ_BYTES]).fetchall()

    def _stored_last(self) -> int:
        with self._pool.connection() as conn:
            row = conn.execute("SELECT last_seq FROM sequencer").fetchone()
        assert row is not None
        return int(row[0])

    def _stored_oldest(self) -> int | None:
        with self._pool.connection() as conn:
            row = conn.execute("SELECT min(seq) FROM event").fetchone()
        return None if row is None else row[0]
