"""Cached DID documents and handles. Both may be wiped at any time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from protocol.syntax.did import Did


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
    that Postgres cannot hold (NUL in a text) is not cached.
    """
    if "\\u0000" in json.dumps(document):
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
            error = excluded.error, checked_at = excluded.checked_at
        WHERE handle_cache.checked_at <= excluded.checked_at
        """,
        (handle, did, error, checked_at),
    )


def stale_accounts(
    conn: psycopg.Connection[Any], *, older_than: float, limit: int
) -> list[Did]:
    """Return let-in accounts whose document or handle check is over `older_than`
    seconds old, the oldest handle check first."""
    rows = conn.execute(
        """
        SELECT actor.did FROM repo JOIN actor ON actor.id = repo.actor
        LEFT JOIN identity ON identity.did = actor.did
        WHERE handle_checked_at IS NULL OR identity.fetched_at IS NULL
           OR handle_checked_at < now() - make_interval(secs => %(age)s)
           OR identity.fetched_at < now() - make_interval(secs => %(age)s)
        ORDER BY handle_checked_at NULLS FIRST LIMIT %(limit)s
        """,
        {"age": older_than, "limit": limit},
    )
    return [row[0] for row in rows]
