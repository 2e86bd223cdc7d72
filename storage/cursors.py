"""How far each stream has been applied.

A cursor is written in the transaction of the rows it covers, never before. One row a
host and shard; a stream resumes from the least of a host's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

DEFAULT_SHARD = 0


def load_cursors(conn: psycopg.Connection[Any]) -> dict[int, int]:
    """Return host id -> the sequence number to resume after."""
    rows = conn.execute("SELECT host, min(seq) FROM host_cursor GROUP BY host")
    return dict(rows.fetchall())


def load_cursor(conn: psycopg.Connection[Any], host: int) -> int | None:
    """Return one host's cursor, None when nothing of its stream was applied yet."""
    row = conn.execute(
        "SELECT min(seq) FROM host_cursor WHERE host = %s", (host,)
    ).fetchone()
    return None if row is None else row[0]


def save_cursors(
    conn: psycopg.Connection[Any],
    cursors: Mapping[int, int],
    *,
    shard: int = DEFAULT_SHARD,
) -> None:
    """Write host id -> sequence number. Never moves a cursor back.

    Does not commit: call it inside the transaction of the rows it covers.
    """
    if not cursors:
        return
    hosts = sorted(cursors)
    conn.execute(
        """
        INSERT INTO host_cursor (host, shard, seq, updated_at)
        SELECT host, %s, seq, now() FROM unnest(%s::int4[], %s::int8[]) AS t (host, seq)
        ON CONFLICT (host, shard) DO UPDATE
        SET seq = excluded.seq, updated_at = excluded.updated_at
        WHERE host_cursor.seq < excluded.seq
        """,
        (shard, hosts, [cursors[host] for host in hosts]),
    )


def forget_cursor(conn: psycopg.Connection[Any], host: int) -> None:
    """Drop a host's cursor: its numbering began anew, the next start is at its tip."""
    conn.execute("DELETE FROM host_cursor WHERE host = %s", (host,))
