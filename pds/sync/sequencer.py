"""The event log: sequence numbers, stored frames, and their readers.

`append` runs inside the transaction of the change, as its last step: it locks the one
`sequencer` row until the transaction ends. So numbers become visible in order, a
rolled-back number was never visible, and no number is given twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, LiteralString, NoReturn

import anyio
import psycopg

from pds.server.accounts import utc_text
from pds.sync.frames import Message
from storage.postgres.pool import Conn, Pool

CHANNEL: Final = "pds_event"

# A frame has up to 2 MB, so a read is bounded in bytes too.
_READ_BYTES: Final = 4 * 1024 * 1024
_RETRY_SECONDS: Final = 1.0

# A limited number of events and bytes, but at least one event.
_READ = """
    SELECT seq, frame FROM (
        SELECT seq, frame, sum(octet_length(frame)) OVER (ORDER BY seq) AS total
        FROM (
            SELECT seq, frame FROM event WHERE seq > %s ORDER BY seq LIMIT %s
        ) AS next
    ) AS sized
    WHERE total - octet_length(frame) < %s ORDER BY seq
"""


def append(conn: Conn, account: int, messages: Sequence[Message], now: datetime) -> int:
    """Store these messages as the next events; return the last number.

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
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO event (seq, account, kind, frame, created_at)"
            " VALUES (%s, %s, %s, %s, %s)",
            rows,
        )
        cursor.execute(f"NOTIFY {CHANNEL}")
    return last


def prune(conn: Conn, before: datetime) -> int:
    """Delete events older than the backfill window; return their number."""
    return conn.execute("DELETE FROM event WHERE created_at < %s", [before]).rowcount


class StoredEvents:
    """The log as an EventSource."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def tail(self) -> int:
        """Return the newest number; 0 for none."""
        return await anyio.to_thread.run_sync(
            self._number, "SELECT last_seq FROM sequencer"
        )

    async def oldest(self) -> int:
        """Return the oldest stored number; 0 for none."""
        return await anyio.to_thread.run_sync(
            self._number, "SELECT coalesce(min(seq), 0) FROM event"
        )

    async def events_after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return the next events above `seq`: at most `limit`, about 4 MiB."""
        return await anyio.to_thread.run_sync(self._read, seq, limit)

    def _read(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        with self._pool.connection() as conn:
            return conn.execute(_READ, [seq, limit, _READ_BYTES]).fetchall()

    def _number(self, query: LiteralString) -> int:
        with self._pool.connection() as conn:
            row = conn.execute(query).fetchone()
        assert row is not None
        return int(row[0])


async def listen(pool: Pool, wake: Callable[[], None]) -> NoReturn:
    """Call `wake` after each append of any process, until cancelled.

    Notifications only shorten the wait: readers also poll, so a lost one costs a
    second.
    """
    conninfo = pool.conninfo
    assert isinstance(conninfo, str)
    while True:
        with suppress(psycopg.OperationalError):
            conn = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
            async with conn:
                await conn.execute(f"LISTEN {CHANNEL}")
                wake()
                async for _ in conn.notifies():
                    wake()
        await asyncio.sleep(_RETRY_SECONDS)
