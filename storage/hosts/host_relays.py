"""Relays, and the hosts whose commits they forward."""

from __future__ import annotations

from storage.postgres.fetch import fetch_value
from storage.postgres.pool import Conn


def has_relays(conn: Conn) -> bool:
    """Return True if a known host is a relay."""
    row = conn.execute("SELECT EXISTS (SELECT FROM host WHERE relay)").fetchone()
    return row == (True,)


def relay_is_read(conn: Conn) -> bool:
    """Return True if a relay currently brings the events of relayed hosts."""
    return bool(
        fetch_value(
            conn,
            "SELECT EXISTS (SELECT FROM host WHERE relay"
            " AND state IN ('streaming', 'needs_recheck'))",
        )
    )


def relayed_hosts(conn: Conn) -> list[int]:
    """Return the hosts with indexed accounts whose commits a relay forwards."""
    rows = conn.execute(
        "SELECT id FROM host WHERE state = 'relayed' AND accounts > 0 ORDER BY id"
    )
    return [row[0] for row in rows]
