"""Which hosts' listings are due, and how far each has come."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row

from storage.hosts.host_rows import HOST_COLUMNS, Host


def begin_listing(conn: psycopg.Connection[Any], host: int) -> datetime:
    """Note that a listing begins now; the time stands for it until its end."""
    row = conn.execute(
        "UPDATE host SET polled_at = clock_timestamp() WHERE id = %s"
        " RETURNING polled_at",
        (host,),
    ).fetchone()
    assert row is not None
    began: datetime = row[0]
    return began


def listings_due(
    conn: psycopg.Connection[Any], *, limit: int, older_than: float
) -> list[tuple[Host, str | None]]:
    """Return streamed hosts whose listing is due, who waits longest first, with the
    cursor to go on from.

    Due: never finished, or finished more than `older_than` seconds ago; of relayed
    hosts only those for which it was requested. Relays list other hosts' repos and
    are not asked.
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


def polls_due(
    conn: psycopg.Connection[Any], *, limit: int, every: float
) -> list[tuple[Host, str | None]]:
    """Return polled hosts whose turn it is, who waits longest first, with the cursor to
    go on from: each has its own `poll_every`, else it is `every` seconds. Throttled and
    offline ones are among them when their time has come."""
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
    conn: psycopg.Connection[Any], condition: str, values: dict[str, Any]
) -> list[tuple[Host, str | None]]:
    # By when each was begun, not ended: some listings never end.
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
    conn: psycopg.Connection[Any],
    host: int,
    began: datetime,
    list_cursor: str | None,
    *,
    done: bool,
) -> None:
    """Note how far the listing that `began` then has come, or that it is complete.

    Without effect if another was requested meanwhile: what happened in between must
    be seen by that one.
    """
    conn.execute(
        """
        UPDATE host SET list_cursor = %s,
            listed_at = CASE WHEN %s THEN now() ELSE listed_at END
        WHERE id = %s AND polled_at = %s
        """,
        (None if done else list_cursor, done, host, began),
    )


def forget_list_cursor(conn: psycopg.Connection[Any], host: int) -> None:
    """The host does not take its own cursor: its next listing begins anew."""
    conn.execute("UPDATE host SET list_cursor = NULL WHERE id = %s", (host,))


def note_poll(
    conn: psycopg.Connection[Any], host: int, *, rate: float, poll_every: float
) -> None:
    """A whole poll went well: failures are forgotten, the next is in `poll_every`
    seconds."""
    conn.execute(
        """
        UPDATE host SET rate = %s, poll_every = %s, tries = 0, next_try = NULL,
            error = NULL, last_seen = now()
        WHERE id = %s AND state <> 'banned'
        """,
        (rate, poll_every, host),
    )


def poll_now(conn: psycopg.Connection[Any], host: int) -> None:
    """Make a polled host's next poll due at once; one under way goes on."""
    conn.execute(
        "UPDATE host SET poll_every = 0, next_try = NULL WHERE id = %s", (host,)
    )


def find_asked(
    conn: psycopg.Connection[Any], hostname: str, *, within: float
) -> tuple[Host, bool] | None:
    """Return a host, locked, and whether somebody asked for it to be crawled again in
    the last `within` seconds; None if there is no such host."""
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


def note_asked(conn: psycopg.Connection[Any], host: int) -> None:
    """Remember that somebody asked for this host to be crawled again just now."""
    conn.execute("UPDATE host SET asked_at = now() WHERE id = %s", (host,))
