"""Who may do a piece of work now. A crashed holder's lease runs out; a lock ends with
the connection that took it."""

from __future__ import annotations

from typing import Final, LiteralString

from storage.postgres.pool import Conn


def take_lease(conn: Conn, name: str, holder: str, seconds: float) -> bool:
    """Take or renew the lease `name`; False while somebody else holds it.

    One statement: commit it to make it hold.
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
    """Give the lease back, if it is still this holder's."""
    conn.execute("DELETE FROM lease WHERE name = %s AND holder = %s", (name, holder))


# Any constants: they only have to differ from other advisory locks of the database.
_CRAWLER: Final = 0x6269_6777_0001
_SHARDS: Final = 0x6269_6777


def hold_crawler(conn: Conn) -> bool:
    """Become the one crawler of this database for as long as `conn` lasts; False
    while there is another. `conn` must be in autocommit."""
    return _take(conn, "SELECT pg_try_advisory_lock(%s)", _CRAWLER)


def hold_shard(conn: Conn, shard: int) -> bool:
    """Become the shard of this number for as long as `conn` lasts; False while there
    is another. What is written on `conn` is then written by nobody else."""
    return _take(conn, "SELECT pg_try_advisory_lock(%s, %s)", _SHARDS, shard)


def count_shards(conn: Conn) -> int:
    """How many shards are at work on this database."""
    row = conn.execute(
        """
        SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND classid = %s AND objsubid = 2 AND granted
          AND database = (SELECT oid FROM pg_database
                          WHERE datname = current_database())
        """,
        (_SHARDS,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def _take(conn: Conn, query: LiteralString, *keys: int) -> bool:
    row = conn.execute(query, keys).fetchone()
    return row is not None and bool(row[0])
