"""Leases, which expire, and advisory locks, which end with their connection."""

from __future__ import annotations

from typing import Final, LiteralString

from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn


def take_lease(conn: Conn, name: str, holder: str, seconds: float) -> bool:
    """Take or renew the lease `name`; return False while another holder has it.

    One statement; it holds once committed.
    """
    row = conn.execute(
        """
        INSERT INTO lease (name, holder, until)
        VALUES (%(name)s, %(holder)s, now() + make_interval(secs => %(seconds)s))
        ON CONFLICT (name) DO UPDATE
        SET holder = excluded.holder, until = excluded.until
        WHERE lease.until <= now() OR lease.holder = excluded.holder
        RETURNING name
        """,
        {"name": name, "holder": holder, "seconds": seconds},
    ).fetchone()
    return row is not None


def drop_lease(conn: Conn, name: str, holder: str) -> None:
    """Release the lease, if this holder still has it."""
    conn.execute("DELETE FROM lease WHERE name = %s AND holder = %s", (name, holder))


# Must differ from other advisory locks of the database.
_CRAWLER: Final = 0x6269_6777_0001
_SHARDS: Final = 0x6269_6777


def hold_crawler(conn: Conn) -> bool:
    """Become the only crawler of this database while `conn` lasts.

    Returns False while there is another. `conn` must be in autocommit mode.
    """
    return _take(conn, "SELECT pg_try_advisory_lock(%s)", _CRAWLER)


def hold_shard(conn: Conn, shard: int) -> bool:
    """Become the only shard of this number while `conn` lasts.

    Returns False while there is another.
    """
    return _take(conn, "SELECT pg_try_advisory_lock(%s, %s)", _SHARDS, shard)


def count_shards(conn: Conn) -> int:
    return fetch_int(
        conn,
        """
        SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND granted
          AND database = (SELECT oid FROM pg_database
                          WHERE datname = current_database())
        """,
        (_SHARDS,),
    )


def _take(conn: Conn, query: LiteralString, *keys: int) -> bool:
    row = conn.execute(query, keys).fetchone()
    return row is not None and bool(row[0])
