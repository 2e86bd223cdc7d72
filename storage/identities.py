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


def save_document(
    conn: psycopg.Connection[Any],
    did: str,
    document: Any | None,
    error: str | None = None,
) -> None:
    """Cache a look-up: the document as JSON, or the error it ended in.

    A document that Postgres cannot hold (NUL in a text) is not cached.
    """
    if "\\u0000" in json.dumps(document):
        return
    conn.execute(
        """
        INSERT INTO identity (did, document, error, fetched_at)
        VALUES (%s, %s, %s, now())
        ON CONFLICT (did) DO UPDATE SET document = excluded.document,
            error = excluded.error, fetched_at = excluded.fetched_at
        """,
        (did, None if document is None else Jsonb(document), error),
    )
