"""Leases: who may do a piece of work now. A crashed holder's lease runs out."""

from __future__ import annotations

from typing import Any

import psycopg


def take_lease(
    conn: psycopg.Connection[Any], name: str, holder: str, seconds: float
) -> bool:
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


def drop_lease(conn: psycopg.Connection[Any], name: str, holder: str) -> None:
    """Give the lease back, if it is still this holder's."""
    conn.execute("DELETE FROM lease WHERE name = %s AND holder = %s", (name, holder))
