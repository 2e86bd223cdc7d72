"""Last status that hosts reported of each account, and accounts to ask about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from protocol.syntax.did import Did
from storage.postgres.fetch import fetch_all
from storage.postgres.pool import Conn
from storage.states import STATUS_DELETED

# Written so that an index is read in its order until there are enough rows.
_ASKED: Final = """
    host NOT IN (SELECT id FROM spared) AND %(deleted)s <>
        (SELECT upstream_status FROM actor WHERE actor.id = repo.actor)
"""


@dataclass(frozen=True, slots=True)
class DoubtfulAccount:
    """An account whose host must be asked for its status.

    `unknown`: how often in a row the host did not know the repo. `asked_at`: a time
    before the request.
    """

    actor: int
    did: Did
    host: int
    url: str
    status: str
    unknown: int
    asked_at: datetime


def asking_time(conn: Conn) -> datetime:
    """Return the database's time before a request.

    It separates the reply from what the host reported before; all processes share it.
    """
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    time: datetime = row[0]
    return time


def note_statuses(
    conn: Conn, actors: Sequence[int], host: int, *, fresh_for: float = 0.0
) -> None:
    """Note that a host reported the status of these accounts of its own.

    Accounts reported in the last `fresh_for` seconds are left as they are.
    """
    conn.execute(
        """
        UPDATE repo SET status_at = now(), unknown = 0
        WHERE actor = ANY(%s) AND host = %s AND (unknown > 0 OR status_at IS NULL
            OR status_at <= now() - make_interval(secs => %s))
        """,
        (list(actors), host, fresh_for),
    )


def note_told(conn: Conn, actors: Sequence[int]) -> None:
    """Note that a host reported the status of these accounts by itself."""
    if actors:
        conn.execute(
            "UPDATE repo SET status_at = now(), unknown = 0 WHERE actor = ANY(%s)",
            (list(actors),),
        )


def told_since(conn: Conn, asked: Mapping[int, datetime]) -> set[int]:
    """Return the accounts whose host reported them since it was asked.

    Their repos must be locked, or a report may come at any moment.
    """
    if not asked:
        return set()
    rows = conn.execute(
        """
        SELECT actor FROM repo
        JOIN unnest(%s::int4[], %s::timestamptz[]) AS asked (id, at) ON actor = id
        WHERE status_at >= at
        """,
        (list(asked), list(asked.values())),
    )
    return {row[0] for row in rows}


def note_unknown(conn: Conn, actor: int) -> None:
    conn.execute(
        "UPDATE repo SET status_at = now(), unknown = least(unknown + 1, 1000)"
        " WHERE actor = %s",
        (actor,),
    )


def doubtful_accounts(
    conn: Conn, *, older_than: float, confirm_after: float, limit: int, per_host: int
) -> list[DoubtfulAccount]:
    """Return accounts whose host must be asked: never reported ones first.

    Due: not reported for `older_than` seconds, or unknown to the host `confirm_after`
    seconds ago. At most `per_host` of one host and `limit` in all, without deleted
    accounts and hosts that must not be contacted now.
    """
    return fetch_all(
        conn,
        DoubtfulAccount,
        f"""
        WITH spared AS MATERIALIZED (
            SELECT id FROM host
            WHERE relay OR state IN ('banned', 'throttled', 'offline')
               OR rate_limited_until > now()
        ), due AS (
            (SELECT actor, host, status_at, unknown FROM repo
             WHERE status_at IS NULL AND {_ASKED} LIMIT %(ahead)s)
            UNION ALL
            (SELECT actor, host, status_at, unknown FROM repo
             WHERE status_at < now() - make_interval(secs => %(older)s)
               AND {_ASKED}
             ORDER BY status_at LIMIT %(ahead)s)
            UNION ALL
            (SELECT actor, host, status_at, unknown FROM repo
             WHERE unknown = 1
               AND status_at >= now() - make_interval(secs => %(older)s)
               AND status_at < now() - make_interval(secs => %(confirm)s)
               AND {_ASKED}
             LIMIT %(ahead)s)
        ), placed AS (
            SELECT due.*, row_number() OVER (
                PARTITION BY due.host ORDER BY status_at NULLS FIRST, actor
            ) AS place
            FROM due
        )
        SELECT actor, did, host, url, upstream_status AS status, unknown,
            clock_timestamp() AS asked_at
        FROM placed JOIN host ON host.id = placed.host
        JOIN actor ON actor.id = placed.actor
        WHERE place <= %(per_host)s
        ORDER BY status_at NULLS FIRST, actor LIMIT %(limit)s
        """,
        {
            "older": older_than,
            "confirm": confirm_after,
            "ahead": limit * 20,
            "per_host": per_host,
            "limit": limit,
            "deleted": STATUS_DELETED,
        },
    )
