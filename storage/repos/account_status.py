"""When a host last spoke for the status of each account, and whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

from protocol.syntax.did import Did
from storage.states import STATUS_DELETED

# Written so that an index is read in its order until there are enough, however many
# there are in all.
_ASKED: Final = """
    host NOT IN (SELECT id FROM spared) AND %(deleted)s <>
        (SELECT upstream_status FROM actor WHERE actor.id = repo.actor)
"""


@dataclass(frozen=True, slots=True)
class DoubtfulAccount:
    """An account whose host must be asked. `unknown`: how often in a row the host
    said that it does not know the repo; `asked_at` no later than it will be."""

    actor: int
    did: Did
    host: int
    url: str
    status: str
    unknown: int
    asked_at: datetime


def asking_time(conn: psycopg.Connection[Any]) -> datetime:
    """The time by which what a host is asked from now on is told from what it told
    before (the database's, which all processes share)."""
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    time: datetime = row[0]
    return time


def note_statuses(
    conn: psycopg.Connection[Any],
    actors: Sequence[int],
    host: int,
    *,
    fresh_for: float = 0.0,
) -> None:
    """The host spoke for these accounts of its own. Those that it spoke for in the
    last `fresh_for` seconds are left as they are."""
    conn.execute(
        """
        UPDATE repo SET status_at = now(), unknown = 0
        WHERE actor = ANY(%s) AND host = %s AND (unknown > 0 OR status_at IS NULL
            OR status_at <= now() - make_interval(secs => %s))
        """,
        (list(actors), host, fresh_for),
    )


def note_told(conn: psycopg.Connection[Any], actors: Sequence[int]) -> None:
    """The host told of these accounts by itself."""
    if actors:
        conn.execute(
            "UPDATE repo SET status_at = now(), unknown = 0 WHERE actor = ANY(%s)",
            (list(actors),),
        )


def told_since(
    conn: psycopg.Connection[Any], asked: Mapping[int, datetime]
) -> set[int]:
    """Of accounts whose host was asked at some time, those it has spoken for since.

    Its repo must be locked, or it may speak at any moment.
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


def note_unknown(conn: psycopg.Connection[Any], actor: int) -> None:
    """The host said that it does not know the repo."""
    conn.execute(
        "UPDATE repo SET status_at = now(), unknown = least(unknown + 1, 1000)"
        " WHERE actor = %s",
        (actor,),
    )


def doubtful_accounts(
    conn: psycopg.Connection[Any],
    *,
    older_than: float,
    confirm_after: float,
    limit: int,
    per_host: int,
) -> list[DoubtfulAccount]:
    """Return accounts whose host did not speak for them for `older_than` seconds, or
    said `confirm_after` seconds ago or more that it does not know them: those never
    spoken for first, `per_host` of one host at most, `limit` in all.

    Deleted accounts are left alone, and hosts that are not to be asked now.
    """
    with conn.cursor(row_factory=class_row(DoubtfulAccount)) as cursor:
        cursor.execute(
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
        return cursor.fetchall()
