"""Listings of hosts: due times, and the progress of each."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg.rows import class_row, dict_row

from storage.hosts.host_rows import HOST_COLUMNS, Host
from storage.postgres.pool import Conn


def begin_listing(conn: Conn, host: int) -> datetime:
    """Note that a listing begins now; return the time, which identifies it."""
    row = conn.execute(
        "UPDATE host SET polled_at = clock_timestamp() WHERE id = %s"
        " RETURNING polled_at",
        (host,),
    ).fetchone()
    assert row is not None
    began: datetime = row[0]
    return began


def listings_due(
    conn: Conn, *, limit: int, older_than: float
) -> list[tuple[Host, str | None]]:
    """Return streamed hosts whose listing is due, longest waiting first, with cursors.

    Due: never finished, or finished over `older_than` seconds ago; of relayed hosts
    only those for which it was requested. Relays are not listed.
    """
    return _due(
        conn,
        """
        (state IN ('new', 'streaming', 'needs_recheck') AND (listed_at IS NULL
             OR listed_at < now() - make_interval(secs => %(older_than)s))
         OR state = 'relayed' AND listed_at IS NULL)
        """,
        {"limit": limit, "older_than": older_than},
    )


def polls_due(conn: Conn, *, limit: int, every: float) -> list[tuple[Host, str | None]]:
    """Return polled hosts that are due, longest waiting first, with cursors.

    A host without its own `poll_every` is polled every `every` seconds. Throttled and
    offline hosts are included once their waiting time is over.
    """
    return _due(
        conn,
        """
        (state = 'polling' AND (listed_at IS NULL OR listed_at
             < now() - make_interval(secs => coalesce(poll_every, %(every)s)))
         OR state IN ('throttled', 'offline') AND mode = 'poll')
        """,
        {"limit": limit, "every": every},
    )


def _due(
    conn: Conn, condition: str, values: dict[str, Any]
) -> list[tuple[Host, str | None]]:
    # Ordered by start: some listings never end.
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            f"""
            SELECT {HOST_COLUMNS}, list_cursor FROM host
            WHERE NOT relay AND {condition}
              AND (next_try IS NULL OR next_try <= now())
              AND (rate_limited_until IS NULL OR rate_limited_until <= now())
            ORDER BY polled_at NULLS FIRST, id LIMIT %(limit)s
            """,
            values,
        )
        due: list[tuple[Host, str | None]] = []
        for row in cursor:
            list_cursor = row.pop("list_cursor")
            due.append((Host(**row), list_cursor))
        return due


def save_list_cursor(
    conn: Conn, host: int, began: datetime, list_cursor: str | None, *, done: bool
) -> None:
    """Save the cursor of the listing that began at `began`, or its end.

    No effect if another listing was requested since then, which must see all changes.
    """
    conn.execute(
        """
        UPDATE host SET list_cursor = %s,
            listed_at = CASE WHEN %s THEN now() ELSE listed_at END
        WHERE id = %s AND polled_at = %s
        """,
        (None if done else list_cursor, done, host, began),
    )


def forget_list_cursor(conn: Conn, host: int) -> None:
    """Drop the cursor, which the host rejects: its next listing starts over."""
    conn.execute("UPDATE host SET list_cursor = NULL WHERE id = %s", (host,))


def note_poll(conn: Conn, host: int, *, rate: float, poll_every: float) -> None:
    """Note a complete poll: clear failures; the next is in `poll_every` seconds."""
    conn.execute(
        """
        UPDATE host SET rate = %s, poll_every = %s, tries = 0, next_try = NULL,
            error = NULL, last_seen = now()
        WHERE id = %s AND state <> 'banned'
        """,
        (rate, poll_every, host),
    )


def poll_now(conn: Conn, host: int) -> None:
    """Make a host's next poll due at once; a running one continues."""
    conn.execute(
        "UPDATE host SET poll_every = 0, next_try = NULL WHERE id = %s", (host,)
    )


def find_asked(conn: Conn, hostname: str, *, within: float) -> tuple[Host, bool] | None:
    """Return a host, locked, and True if a crawl was requested within `within` seconds.

    Returns None for an unknown host.
    """
    with conn.cursor(row_factory=class_row(Host)) as cursor:
        cursor.execute(
            f"SELECT {HOST_COLUMNS} FROM host WHERE hostname = %s FOR NO KEY UPDATE",
            (hostname,),
        )
        host = cursor.fetchone()
    if host is None:
        return None
    row = conn.execute(
        "SELECT asked_at > now() - make_interval(secs => %s) FROM host WHERE id = %s",
        (within, host.id),
    ).fetchone()
    assert row is not None
    return host, bool(row[0])


def note_asked(conn: Conn, host: int) -> None:
    """Note that a crawl of this host was requested now."""
    conn.execute("UPDATE host SET asked_at = now() WHERE id = %s", (host,))
