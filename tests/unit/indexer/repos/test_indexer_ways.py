"""Equal rows from every way in which a repo comes in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from index_dump import dump
from index_ways import SELECTED_WAYS, WAYS, World
from record_kinds import NSIDS
from repo_history import History

from audit import repair
from indexer import account, changes, links
from indexer.repos import checkout, selected, staged_repo
from storage.postgres.pool import Conn, Pool
from storage.records import record_rows
from storage.records.interning import Interner
from storage.schema import metadata


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the bounds so that small repos meet them."""
    monkeypatch.setattr(account, "_PURGE_ROWS", 7)
    monkeypatch.setattr(checkout, "_CHUNK_RECORDS", 8)
    monkeypatch.setattr(staged_repo, "_CHUNK_RECORDS", 5)
    monkeypatch.setattr(staged_repo, "_FETCH_ROWS", 3)
    monkeypatch.setattr(selected, "_ROWS", 4)
    monkeypatch.setattr(repair, "_ROWS", 6)
    monkeypatch.setattr(record_rows, "_PAGE_ROWS", 7)
    for module in (links, changes):
        monkeypatch.setattr(module, "MAX_LINKS", 6)


def wipe(conn: Conn) -> None:
    conn.rollback()
    for name in metadata.tables:
        if name not in ("collection", "path", "rkey", "dictionary"):
            conn.execute(f"DELETE FROM {name}")
    # The triggers count deletions too.
    conn.execute("DELETE FROM activity_change")
    conn.commit()


def worlds(
    conn: Conn, pool: Pool, history: History, seed: int, ways: Any
) -> Iterator[tuple[str, Any, World]]:
    for name, way in ways.items():
        wipe(conn)
        yield name, way, World(conn, Interner(pool, cache_size=16), history, seed)


def compare(name: str, held: dict[str, Any], first: dict[str, Any]) -> None:
    for table, rows in held.items():
        assert not rows - first[table], f"{name}: too many in {table}"
        assert not first[table] - rows, f"{name}: missing in {table}"


def lead_to_the_same_rows(conn: Conn, pool: Pool, seed: int) -> None:
    history = History(seed)
    first: dict[str, Any] = {}
    for name, way, world in worlds(conn, pool, history, seed, WAYS):
        way(world)
        held = world.check()
        first = first or held
        compare(name, held, first)


def lead_to_the_same_choice(conn: Conn, pool: Pool, seed: int) -> None:
    history = History(1_000 + seed)
    keep = random.Random(seed).sample(sorted(set(NSIDS)), 6)
    first: dict[str, Any] = {}
    for name, way, world in worlds(conn, pool, history, seed, SELECTED_WAYS):
        way(world, keep)
        held = world.check()
        first = first or held
        compare(name, held, first)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 22])
def test_all_ways_give_the_same_rows(conn: Conn, pool: Pool, seed: int) -> None:
    lead_to_the_same_rows(conn, pool, seed)


@pytest.mark.slow
def test_all_ways_give_the_same_partial_repos(conn: Conn, pool: Pool) -> None:
    lead_to_the_same_choice(conn, pool, 1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_histories(conn: Conn, pool: Pool, seed: int) -> None:
    lead_to_the_same_rows(conn, pool, seed)
    lead_to_the_same_choice(conn, pool, seed)


def test_comparison_detects_surplus_row(conn: Conn, pool: Pool) -> None:
    history = History(2)
    held = []
    for _, way, world in worlds(
        conn, pool, history, 2, dict.fromkeys("ab", WAYS["one batch"])
    ):
        way(world)
        if held:
            conn.execute("INSERT INTO index_error SELECT actor, 1, 1, 'x' FROM repo")
            conn.commit()
        world.drain()
        held.append(dump(conn))
    with pytest.raises(AssertionError, match="index_error"):
        compare("b", held[1], held[0])
