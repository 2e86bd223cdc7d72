"""The scope in memory is the scope in the database, by its changes alone."""

from __future__ import annotations

import random

import pytest

import storage.repos.scope_rows
from crawler.scope.members import ScopeView
from storage.postgres.pool import Conn
from storage.repos.scope_rows import ScopeKind, add_accounts, remove_accounts, set_scope


def dids(*numbers: int) -> list[str]:
    return [f"did:plc:{n}" for n in numbers]


class View:
    def __init__(self) -> None:
        self._time = 0.0
        self.view = ScopeView(lambda: self._time)
        self.left: list[frozenset[str] | None] = []

    def look(self, conn: Conn) -> set[str]:
        self.left.append(self.view.refresh(conn))
        return {did for did in dids(*range(30)) if self.view.includes(did)}


def test_account_that_leaves_the_scope_affects_no_other(conn: Conn) -> None:
    set_scope(conn, ScopeKind.FOLLOWS, seeds=dids(0))
    add_accounts(conn, dids(*range(20)))
    view = View()
    view.look(conn)
    remove_accounts(conn, dids(3))
    assert view.look(conn) == set(dids(*range(20))) - set(dids(3))
    assert view.left == [None, frozenset(dids(3))]
    remove_accounts(conn, dids(4))
    add_accounts(conn, dids(4))
    assert view.look(conn) == set(dids(*range(20))) - set(dids(3))
    assert view.left[-1] == frozenset(dids(4)), "it is to be let in again"
    assert view.look(conn)
    assert view.left[-1] == frozenset()


@pytest.mark.parametrize("seed", range(6))
def test_views_converge_to_the_stored_scope(
    conn: Conn, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """However many changes come between two looks, and lists that are begun afresh."""
    monkeypatch.setattr(storage.repos.scope_rows, "_DEPARTURES_KEPT", 8)
    rng = random.Random(seed)
    set_scope(conn, ScopeKind.FOLLOWS, seeds=dids(0))
    views = [View() for _ in range(3)]
    for _ in range(150):
        chosen = dids(*rng.sample(range(30), rng.randint(1, 5)))
        rng.choice([add_accounts, remove_accounts])(conn, chosen)
        if rng.random() < 0.05:
            kind = rng.choice([ScopeKind.FOLLOWS, ScopeKind.DIDS])
            set_scope(conn, kind, seeds=chosen)
        there = {row[0] for row in conn.execute("SELECT did FROM scope_account")}
        for view in views:
            if rng.random() < 0.3:
                assert view.look(conn) == there
    row = conn.execute("SELECT count(*) FROM scope_departure").fetchone()
    assert row is not None
    assert row[0] <= 8
