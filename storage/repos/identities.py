"""Cached DID documents and handles. Both may be deleted at any time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from protocol.syntax.did import Did
from storage.postgres.pool import Conn

MAX_DOCUMENT: Final = 16_000
"""Maximum characters of a cached document: more than any in the PLC directory. Owners
of a domain may serve longer ones, for any number of names."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A cached lookup; `document` is None if it failed, with `error` as the reason."""

    did: Did
    document: Any | None
    error: str | None
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class StoredHandle:
    """A cached handle lookup: the DID, or the error."""

    handle: str
    did: str | None
    error: str | None
    checked_at: datetime


@dataclass(frozen=True, slots=True)
class HandleFailures:
    """Number and duration of consecutive failures to ask a handle's domain."""

    failures: int
    seconds: float


def load_documents(conn: Conn, dids: Iterable[str]) -> dict[Did, StoredDocument]:
    """Return the cached lookups of these DIDs."""
    with conn.cursor(row_factory=class_row(StoredDocument)) as cursor:
        cursor.execute(
            "SELECT did, document, error, fetched_at FROM identity WHERE did = ANY(%s)",
            (list(dids),),
        )
        return {stored.did: stored for stored in cursor}


def load_document(conn: Conn, did: str) -> StoredDocument | None:
    """Return the cached lookup of one DID."""
    return load_documents(conn, [did]).get(Did(did))


def save_document(
    conn: Conn, did: str, document: Any | None, error: str | None, fetched_at: float
) -> None:
    """Cache a lookup: the document as JSON, or its error.

    `fetched_at` is Unix time; an older lookup never replaces a newer one. A document
    with NUL or longer than `MAX_DOCUMENT` is not cached, and removes an older one.
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
    conn: Conn, since: datetime, *, limit: int
) -> list[tuple[Did, datetime]]:
    """Return up to `limit` DIDs fetched after `since`, the oldest first, and when."""
    return conn.execute(
        "SELECT did, fetched_at FROM identity WHERE fetched_at > %s"
        " ORDER BY fetched_at LIMIT %s",
        (since, limit),
    ).fetchall()


def load_handle(conn: Conn, handle: str) -> StoredHandle | None:
    """Return the cached lookup of one handle."""
    with conn.cursor(row_factory=class_row(StoredHandle)) as cursor:
        cursor.execute(
            "SELECT handle, did, error, checked_at FROM handle_cache WHERE handle = %s",
            (handle,),
        )
        return cursor.fetchone()


def save_handle(
    conn: Conn, handle: str, did: str | None, error: str | None, checked_at: float
) -> None:
    """Cache the DID of a handle; `checked_at` is Unix time."""
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


def note_handle_failure(conn: Conn, handle: str) -> HandleFailures:
    """Count a failure to ask a handle's domain; its cached DID stays."""
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


def held_handle(conn: Conn, did: str) -> str | None:
    """Return the verified handle of an account."""
    row = conn.execute("SELECT handle FROM actor WHERE did = %s", (did,)).fetchone()
    return None if row is None else row[0]


def evict(conn: Conn, *, older_than: float, rows: int, limit: int) -> int:
    """Delete cached lookups that are not needed: up to `limit` documents and handles.

    Those over `older_than` seconds old, and the oldest beyond `rows`. Documents of
    admitted accounts stay. So do handles whose domain fails for less than `older_than`,
    which is still counted.
    """
    removed = 0
    for table, key, time, spared in (
        ("identity", "did", "fetched_at", _NOT_ADMITTED),
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


# True once the failures of a domain lasted long enough.
_DECIDED = """coalesce(failing_since, 'epoch')
    < now() - make_interval(secs => %(age)s)"""

_NOT_ADMITTED = """NOT EXISTS (
    SELECT FROM actor JOIN repo ON repo.actor = actor.id WHERE actor.did = old.did)"""


def stale_accounts(conn: Conn, *, older_than: float, limit: int, job: str) -> list[Did]:
    """Return admitted accounts with a document or handle check over `older_than`
    seconds old.

    Accounts with a job of kind `job` and deleted accounts are left out. The `limit`
    accounts that waited longest are examined and rescheduled. Does not commit.
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
