"""Cursors of streams: the progress of each.

A cursor is written in the transaction of the rows it covers, never before. There is one
row a host and shard; a stream resumes from the lowest of a host's rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from storage.postgres.pool import Conn

DEFAULT_SHARD = 0


def load_cursor(conn: Conn, host: int) -> int | None:
    """Return one host's cursor, None before the first event."""
    row = conn.execute(
        "SELECT min(seq) FROM host_cursor WHERE host = %s", (host,)
    ).fetchone()
    return None if row is None else row[0]


def save_cursors(
    conn: Conn, cursors: Mapping[int, int], *, shard: int = DEFAULT_SHARD
) -> None:
    """Write host id -> sequence number; a cursor never moves back.

    Does not commit: call it in the transaction of the rows it covers.
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


def resume_stream(conn: Conn, host: int, *, shards: int = 1) -> int | None:
    """Return the cursor to resume a stream from, and write it for each shard.

    It is the lowest of the rows, for any earlier number of shards: another number
    distributes accounts otherwise, so one row alone means nothing. Call it while no
    other shards are running (storage.postgres.leases). Returns None without a cursor.
    """
    rows = conn.execute(
        "SELECT seq FROM host_cursor WHERE host = %s ORDER BY shard FOR UPDATE", (host,)
    ).fetchall()
    if not rows:
        return None
    least = min(int(row[0]) for row in rows)
    start_stream(conn, host, least, shards=shards)
    return least


def start_stream(conn: Conn, host: int, seq: int, *, shards: int = 1) -> None:
    """Set the cursors of exactly this number of shards to `seq`, in either direction.

    A shard without a row would be ignored when the stream resumes.
    """
    conn.execute(
        """
        INSERT INTO host_cursor (host, shard, seq, updated_at)
        SELECT %(host)s, shard, %(seq)s, coalesce(
            (SELECT max(updated_at) FROM host_cursor WHERE host = %(host)s), now())
        FROM generate_series(0, %(last)s) AS shard
        ON CONFLICT (host, shard) DO UPDATE SET seq = excluded.seq
        """,
        {"host": host, "seq": seq, "last": shards - 1},
    )
    conn.execute(
        "DELETE FROM host_cursor WHERE host = %s AND shard NOT BETWEEN 0 AND %s",
        (host, shards - 1),
    )


def put_back(conn: Conn, host: int, seq: int, *, shard: int) -> None:
    """Set one shard's cursor of a host whose sequence restarted below `seq`."""
    conn.execute(
        """
        INSERT INTO host_cursor (host, shard, seq) VALUES (%s, %s, %s)
        ON CONFLICT (host, shard) DO UPDATE SET seq = excluded.seq
        """,
        (host, shard, seq),
    )


def forget_cursor(conn: Conn, host: int) -> None:
    """Delete a host's cursors: its sequence restarted; the stream starts at the tip."""
    conn.execute("DELETE FROM host_cursor WHERE host = %s", (host,))
