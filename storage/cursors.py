"""How far each stream has been applied.

A cursor is written in the transaction of the rows it covers, never before. One row a
host and shard; a stream resumes from the least of a host's rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from storage.postgres.pool import Conn

DEFAULT_SHARD = 0


def load_cursor(conn: Conn, host: int) -> int | None:
    """Return one host's cursor, None when nothing of its stream was applied yet."""
    row = conn.execute(
        "SELECT min(seq) FROM host_cursor WHERE host = %s", (host,)
    ).fetchone()
    return None if row is None else row[0]


def save_cursors(
    conn: Conn,
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


def resume_stream(conn: Conn, host: int, *, shards: int = 1) -> int | None:
    """Return the cursor to resume a stream from, None when there is none, and give
    each of so many shards a row that says so.

    It is the least of the rows, whatever number of shards wrote them: another number
    deals the accounts out in another way, so that a row means nothing by itself. Call
    it while no shard of another number is at work (storage.postgres.leases).
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
    """Have all of so many shards stand at `seq`, forwards or back, and no others.

    A shard without a row would not be waited for when the stream is resumed.
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
    """Set one shard's cursor of a host whose numbering began anew behind `seq`."""
    conn.execute(
        """
        INSERT INTO host_cursor (host, shard, seq) VALUES (%s, %s, %s)
        ON CONFLICT (host, shard) DO UPDATE SET seq = excluded.seq
        """,
        (host, shard, seq),
    )


def forget_cursor(conn: Conn, host: int) -> None:
    """Drop a host's cursor: its numbering began anew, the next start is at its tip."""
    conn.execute("DELETE FROM host_cursor WHERE host = %s", (host,))
