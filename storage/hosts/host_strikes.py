"""Strikes of hosts that send invalid messages."""

from __future__ import annotations

from typing import Final

from storage.hosts.host_rows import HOST_THROTTLED, move_host
from storage.postgres.pool import Conn

STRIKE_HALF_LIFE: Final = 86_400.0
"""Half-life of a strike in seconds."""

STRIKES_NOW: Final = (
    "strikes * 0.5 ^ (least(extract(epoch FROM now()"
    f" - coalesce(strikes_at, now())), 8640000) / {STRIKE_HALF_LIFE})"
)


def add_strikes(conn: Conn, host: int, count: int, *, limit: int, wait: float) -> int:
    """Count misbehaviour; at `limit` strikes throttle the host for `wait` seconds.

    Strikes halve each day and start at half the limit after a throttling. Returns the
    current strikes. Configured hosts are counted, never throttled.
    """
    row = conn.execute(
        f"""
        UPDATE host SET strikes = {STRIKES_NOW} + %(count)s, strikes_at = now()
        WHERE id = %(host)s RETURNING strikes, source = 'configured'
        """,
        {"count": count, "host": host},
    ).fetchone()
    if row is None:
        return 0
    strikes: int = round(row[0])
    trusted = bool(row[1])
    if strikes >= limit and not trusted:
        why = f"{count} more bad messages, {strikes} by now"
        if move_host(conn, host, HOST_THROTTLED, why, wait=wait):
            conn.execute(
                "UPDATE host SET strikes = %s, error = 'too many bad messages',"
                " error_at = now() WHERE id = %s",
                (limit / 2, host),
            )
    return strikes


def forgive(conn: Conn, host: int) -> None:
    """Clear a host's strikes and failures."""
    conn.execute(
        "UPDATE host SET strikes = 0, tries = 0, error = NULL, next_try = NULL"
        " WHERE id = %s",
        (host,),
    )
