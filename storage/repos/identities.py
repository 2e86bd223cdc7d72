"""Cached DID documents and handles. Both may be wiped at any time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from protocol.syntax.did import Did

MAX_DOCUMENT: Final = 16_000
"""Characters of a cached document: more than any of the PLC directory has. Whoever has
a domain may serve longer ones, for as many names as he likes."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A cached look-up. `document` is None when it failed, and `error` says how."""

    did: Did
    document: Any | None
    error: str | None
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class StoredHandle:
    """The DID that a handle named when it was looked up, or the error."""

    handle: str
    did: str | None
    error: str | None
    checked_at: datetime


@dataclass(frozen=True, slots=True)
class HandleFailures:
    """How often in a row a handle's domain could not be asked, and for how long."""

    failures: int
    seconds: float


def load_documents(
    conn: psycopg.Connection[Any], dids: Iterable[str]
) -> dict[Did, StoredDocument]:
    """Return the cached look-ups of these DIDs."""
    with conn.cursor(row_factory=class_row(StoredDocument)) as cursor:
        cursor.execute(
            "SELECT did, document, error, fetched_at FROM identity WHERE did = ANY(%s)",
            (list(dids),),
        )
        return {stored.did: stored for stored in cursor}


def load_document(conn: psycopg.Connection[Any], did: str) -> StoredDocument | None:
    """Return the cached look-up of one DID."""
    return load_documents(conn, [did]).get(Did(did))


def save_document(
    conn: psycopg.Connection[Any],
    did: str,
    document: Any | None,
    error: str | None,
    fetched_at: float,
) -> None:
    """Cache a look-up: the document as JSON, or the error it ended in.

    `fetched_at` is Unix time; an older look-up never replaces a newer one. A document
    that Postgres cannot hold (NUL in a text), or that is longer than `MAX_DOCUMENT`, is
    not cached; nor is one before it any longer.
    """
    text = json.dumps(document)
    if "\\u0000" in text or len(text) > MAX_DOCUMENT:
        conn.execute(
            "DELETE FROM identity WHERE did = %s AND fetched_at <= to_timestamp(%s)",
            (did, fetched_at),
        )
        return
    conn.execute(
        """
        INSERT INTO identity (did, document, error, fetched_at)
        VALUES (%s, %s, %s, to_timestamp(%s))
        ON CONFLICT (did) DO UPDATE SET document = excluded.document,
            error = excluded.error, fetched_at = excluded.fetched_at
        WHERE identity.fetched_at <= excluded.fetched_at
        """,
        (did, None if document is None else Jsonb(document), error, fetched_at),
    )


def changed_documents(
    conn: psycopg.Connection[Any], since: datetime, *, limit: int
) -> list[tuple[Did, datetime]]:
    """Return up to `limit` DIDs that were resolved after `since`, the oldest first, and
    when."""
    return conn.execute(
        "SELECT did, fetched_at FROM identity WHERE fetched_at > %s"
        " ORDER BY fetched_at LIMIT %s",
        (since, limit),
    ).fetchall()


def load_handle(conn: psycopg.Connection[Any], handle: str) -> StoredHandle | None:
    """Return the cached look-up of one handle."""
    with conn.cursor(row_factory=class_row(StoredHandle)) as cursor:
        cursor.execute(
            "SELECT handle, did, error, checked_at FROM handle_cache WHERE handle = %s",
            (handle,),
        )
        return cursor.fetchone()


def save_handle(
    conn: psycopg.Connection[Any],
    handle: str,
    did: str | None,
    error: str | None,
    checked_at: float,
) -> None:
    """Cache what a handle named; `checked_at` is Unix time."""
    conn.execute(
        """
        INSERT INTO handle_cache (handle, did, error, checked_at)
        VALUES (%s, %s, %s, to_timestamp(%s))
        ON CONFLICT (handle) DO UPDATE SET did = excluded.did,
            error = excluded.error, checked_at = excluded.checked_at,
            failures = 0, failing_since = NULL
        WHERE handle_cache.checked_at <= excluded.checked_at
        """,
        (handle, did, error, checked_at),
    )


def note_handle_failure(conn: psycopg.Connection[Any], handle: str) -> HandleFailures:
    """Count that a handle's domain could not be asked; what it said before stays."""
    with conn.cursor(row_factory=class_row(HandleFailures)) as cursor:
        cursor.execute(
            """
            INSERT INTO handle_cache (handle, checked_at, failures, failing_since)
            VALUES (%s, 'epoch', 1, now())
            ON CONFLICT (handle) DO UPDATE SET failures = handle_cache.failures + 1,
                failing_since = coalesce(handle_cache.failing_since, now())
            RETURNING failures,
                extract(epoch FROM now() - failing_since)::float8 AS seconds
            """,
            (handle,),
        )
        row = cursor.fetchone()
    assert row is not None
    return row


def held_handle(conn: psycopg.Connection[Any], did: str) -> str | None:
    """The handle that an account has here, verified once."""
    row = conn.execute("SELECT handle FROM actor WHERE did = %s", (did,)).fetchone()
    return None if row is None else row[0]


def evict(
    conn: psycopg.Connection[Any], *, older_than: float, rows: int, limit: int
) -> int:
    """Forget look-ups that serve nobody: up to `limit` of documents and of handles.

    Those over `older_than` seconds old, and beyond `rows` the oldest whatever their
    age. Documents of let-in accounts stay: they are as many as those, and needed. So
    do handles whose domain fails for less than `older_than`, which must be counted.
    """
    removed = 0
    for table, key, time, spared in (
        ("identity", "did", "fetched_at", _LET_IN),
        ("handle_cache", "handle", "checked_at", _DECIDED),
    ):
        row = conn.execute(
            "SELECT greatest(reltuples, 0)::int8 FROM pg_class"
            " WHERE oid = %s::regclass",
            (table,),
        ).fetchone()
        beyond = max(0, (row[0] if row else 0) - rows)
        for condition, most in (
            (f"{time} < now() - make_interval(secs => %(age)s)", limit),
            ("true", min(beyond, limit)),
        ):
            removed += conn.execute(
                f"""
                DELETE FROM {table} WHERE {key} IN (
                    SELECT {key} FROM {table} AS old
                    WHERE {condition} AND {spared} ORDER BY {time} LIMIT %(most)s)
                """,
                {"age": older_than, "most": most},
            ).rowcount
    return removed


# Counts how long a domain fails, until that was enough; nobody may ask for it any more.
_DECIDED = """coalesce(failing_since, 'epoch')
    < now() - make_interval(secs => %(age)s)"""

_LET_IN = """NOT EXISTS (
    SELECT FROM actor JOIN repo ON repo.actor = actor.id WHERE actor.did = old.did)"""


def stale_accounts(
    conn: psycopg.Connection[Any], *, older_than: float, limit: int, job: str
) -> list[Did]:
    """Return let-in accounts whose document or handle check is over `older_than`
    seconds old; not those with a job of the kind `job`, which is done at its time, nor
    the deleted, who have no handle to check.

    `limit` accounts whose turn was longest ago are looked at, and have had their turn:
    what is fresh comes when it is so old. Does not commit.
    """
    rows = conn.execute(
        """
        WITH due AS MATERIALIZED (
            SELECT actor FROM repo
            WHERE identity_at <= now() - make_interval(secs => %(age)s)
            ORDER BY identity_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ), found AS MATERIALIZED (
            SELECT actor, actor.did, upstream_status <> 'deleted' AND NOT EXISTS (
                    SELECT FROM job WHERE job.kind = %(job)s AND job.key = actor.did)
                    AS asked,
                coalesce(least(handle_checked_at, fetched_at)
                    > now() - make_interval(secs => %(age)s)
                    AND num_nulls(handle_checked_at, fetched_at) = 0, false) AS fresh,
                least(handle_checked_at, fetched_at) AS checked_at
            FROM due JOIN actor ON actor.id = actor
            LEFT JOIN identity ON identity.did = actor.did
        )
        UPDATE repo
        SET identity_at = CASE WHEN asked AND fresh THEN checked_at ELSE now() END
        FROM found WHERE repo.actor = found.actor
        RETURNING did, asked AND NOT fresh
        """,
        {"age": older_than, "limit": limit, "job": job},
    )
    return [did for did, stale in rows if stale]
