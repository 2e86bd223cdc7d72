"""The cache of lookups: bounded in rows and sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service import tasks
from storage.postgres.pool import Conn, Pool
from storage.repos.identities import MAX_DOCUMENT, load_document, save_document

DID = "did:web:a.example.com"


def document(padding: int = 0, text: str = "x") -> dict[str, Any]:
    return {"id": DID, "alsoKnownAs": [text * padding]}


def test_evict_removes_surplus(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_LOOKUP_ROWS", 300)
    monkeypatch.setattr(tasks, "_TRIMMED_ROWS", 20)
    with pool.connection() as conn:
        conn.execute(
            "INSERT INTO identity (did) SELECT 'did:web:a' || n"
            " FROM generate_series(1, 1000) n"
        )
        conn.execute(
            "INSERT INTO handle_cache (handle, checked_at)"
            " SELECT 'a' || n, now() - interval '8 days'"
            " FROM generate_series(1, 500) n"
        )
        conn.execute("ANALYZE identity, handle_cache")
    side: Any = SimpleNamespace(pool=pool)
    assert tasks._trim_identities(side) == 700 + 500
    with pool.connection() as conn:
        left = conn.execute(
            "SELECT (SELECT count(*) FROM identity),"
            " (SELECT count(*) FROM handle_cache)"
        ).fetchone()
    assert left == (300, 0)
    assert tasks._trim_identities(side) == 0


@pytest.mark.parametrize("odd", [document(MAX_DOCUMENT), document(1, "\0")])
def test_uncacheable_document_removes_older_one(conn: Conn, odd: Any) -> None:
    save_document(conn, DID, document(), None, 1_000.0)
    save_document(conn, DID, odd, None, 2_000.0)
    assert load_document(conn, DID) is None
    save_document(conn, DID, document(100), None, 3_000.0)
    save_document(conn, DID, odd, None, 2_500.0)
    stored = load_document(conn, DID)
    assert stored is not None
    assert stored.document == document(100)
