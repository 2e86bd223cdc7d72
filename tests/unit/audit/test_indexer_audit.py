"""Planted corruption of every kind, found and repaired."""

from __future__ import annotations

from typing import Any

import pytest
from corruptions import CORRUPTIONS
from indexer_steps import assert_indexed, import_repo
from indexer_world import NOW, Author, held_records, repo_row, written_records

from audit.repair import clear_repo
from audit.repo_audit import (
    RepoTooLargeError,
    audit_repo,
    describe_fault,
    recount_stats,
)
from protocol.data.cid import cid_for
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.records.record_codec import compress


def links(conn: Conn) -> list[Any]:
    rows = conn.execute("SELECT * FROM link ORDER BY 1, 2, 3, 4, 5, 6").fetchall()
    conn.rollback()
    return rows


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_is_found_and_repaired(
    conn: Conn, interner: Interner, two: list[Author], name: str
) -> None:
    a = two[0]
    assert_indexed(conn, two)
    before = links(conn)
    with conn.transaction():
        changed = conn.execute(
            CORRUPTIONS[name],
            {"did": a.did, "other": compress(b"\xa0"), "cid": cid_for(b"x")},
        )
        assert changed.rowcount == 1, "the corruption was not planted"
    found = audit_repo(conn, a.did)
    assert not found.ok
    assert describe_fault(found)
    assert audit_repo(conn, two[1].did).ok
    clear_repo(conn, interner, a.did, NOW, "wrong")
    assert repo_row(conn, a.did) == ("desynchronized", None, None)
    conn.rollback()
    assert held_records(conn) == written_records(two[1:])
    conn.rollback()
    assert recount_stats(conn).ok, "clearing must leave no count behind"
    import_repo(conn, interner, a)
    assert_indexed(conn, two)
    assert links(conn) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE post_stats SET likes = likes + 1",
        "UPDATE post_stats SET quotes = 99",
        "DELETE FROM post_stats",
        "INSERT INTO post_stats (actor, rkey, likes) SELECT actor, 12345, 3"
        " FROM post_stats LIMIT 1",
        "UPDATE actor_stats SET followers = 0, posts = posts - 1",
        "DELETE FROM actor_stats",
        "DELETE FROM link WHERE path = (SELECT min(path) FROM link)",
    ],
)
def test_wrong_stat_is_repaired(conn: Conn, two: list[Author], statement: str) -> None:
    assert recount_stats(conn).ok
    with conn.transaction():
        assert conn.execute(statement).rowcount > 0
    assert not recount_stats(conn).ok
    assert not recount_stats(conn, repair=True).ok
    assert recount_stats(conn).ok


def test_step_skips_too_large_repo(conn: Conn, two: list[Author]) -> None:
    size = len(two[0].records)
    assert audit_repo(conn, two[0].did, most_records=size).ok
    with pytest.raises(RepoTooLargeError):
        audit_repo(conn, two[0].did, most_records=size - 1)
