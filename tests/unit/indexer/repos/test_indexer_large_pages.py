"""Removal of large records in bounded pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from indexer_world import CLOCK, NOW, POST, Author, author, held_records, post

from audit.repair import clear_repo
from indexer import row_writes
from indexer.apply import apply_batch
from indexer.repos.selected import keep_wanted
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.records.stats import StatsChange
from storage.repos.scope_rows import ScopeKind, set_scope

NOTE = "org.example.note"
_LARGE = 900_000


@pytest.fixture
def large(conn: Conn, interner: Interner) -> Author:
    """Create a repo of thirty records of nearly 1 MB, compressible or not."""
    someone = author(0)
    for number in range(30):
        body = os.urandom(_LARGE) if number % 2 else bytes(_LARGE)
        event = someone.commit({f"{NOTE}/{CLOCK.next()}": {"a": body}})
        apply_batch(conn, interner, [event], {1: number}, NOW)
    event = someone.commit({f"{POST}/{CLOCK.next()}": post("small")})
    apply_batch(conn, interner, [event], {1: 31}, NOW)
    return someone


def prune(conn: Conn, interner: Interner, someone: Author) -> int:
    with conn.transaction():
        set_scope(conn, ScopeKind.NETWORK, keep=[POST])
    return keep_wanted(conn, interner, someone.did, NOW)


def clear(conn: Conn, interner: Interner, someone: Author) -> int:
    return clear_repo(conn, interner, someone.did, NOW, "wrong") - 1


@pytest.mark.parametrize("remove", [prune, clear])
def test_large_records_are_removed_in_pieces(
    conn: Conn,
    interner: Interner,
    large: Author,
    monkeypatch: pytest.MonkeyPatch,
    remove: Callable[[Conn, Interner, Author], int],
) -> None:
    most = 0
    real = row_writes.apply_changes

    def watch(c: Conn, i: Interner, changes: Any, now: Any) -> StatsChange:
        nonlocal most
        most = max(most, sum(len(change.old) for change in changes))
        return real(c, i, changes, now)

    monkeypatch.setattr(row_writes, "apply_changes", watch)
    assert remove(conn, interner, large) == 30
    assert most < 3_000_000
    assert len(held_records(conn)) == (1 if remove is prune else 0)
