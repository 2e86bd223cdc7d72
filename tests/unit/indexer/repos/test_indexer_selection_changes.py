"""Changes of the wanted collections: pruned repos, fetches and proofs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from indexer_steps import state_of
from indexer_world import FOLLOW, LIKE, NOW, POST, author, like, post
from selected_world import (
    NOTE,
    NOTES,
    choose,
    dropped,
    fetch,
    held,
    keeps_of,
    of,
    written,
)

from audit.repo_audit import audit_repo, recount_stats
from indexer.repos import selected
from indexer.repos.checkout import Checkout
from indexer.repos.selected import keep_wanted
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.repos.scope_progress import load_progress
from storage.repos.scope_rows import ScopeKind, UnkeptError, load_scope, set_scope
from storage.repos.selections import next_comparison, note_compared, wanted_selection


def compare_all(conn: Conn, interner: Interner, page: int = 2) -> None:
    """Compare all repos with the scope, as the reconciler does."""
    while True:
        with conn.transaction():
            found = next_comparison(conn, page)
        if found is None:
            return
        for did in found.dids:
            keep_wanted(conn, interner, did, NOW)
        with conn.transaction():
            note_compared(conn, found)


def test_fetch_for_older_scope_is_repeated(conn: Conn, interner: Interner) -> None:
    old = choose(conn, NOTE)
    a = written()
    with Checkout(conn, interner, a.did, a.host, selection=old, now=NOW) as checkout:
        checkout.add([each for each in a.repo_records() if each.collection == NOTE])
        with psycopg.connect(conn.info.dsn) as other:
            set_scope(other, ScopeKind.NETWORK, keep=[POST])
        assert not checkout.finish(a.head()).synchronized
    assert keeps_of(conn, a) == {NOTE}
    assert held(conn, a) == of(a, NOTE)
    fetch(conn, interner, a)
    assert keeps_of(conn, a) == {POST}
    assert held(conn, a) == of(a, POST)


def test_wider_is_fetched_and_narrower_pruned(conn: Conn, interner: Interner) -> None:
    authors = [written(n) for n in (1, 3, 5)]
    for a in authors:
        fetch(conn, interner, a)
    compare_all(conn, interner)
    choose(conn, NOTE, POST)
    assert load_progress(conn).synchronized == 0
    conn.rollback()
    compare_all(conn, interner)
    for a in authors:
        assert state_of(conn, a) == "synchronized", "nothing had to be fetched"
        assert held(conn, a) == of(a, NOTE, POST)
        assert keeps_of(conn, a) == {NOTE, POST}
    assert dropped(conn) == {f"{n}/large".encode() for n in (NOTE, POST)}
    assert recount_stats(conn).ok
    progress = load_progress(conn)
    assert (progress.synchronized, progress.partial) == (3, 3)
    conn.rollback()
    for keep in ((NOTE, LIKE), (LIKE, FOLLOW), ()):
        choose(conn, *keep)
        compare_all(conn, interner)
        for a in authors:
            assert state_of(conn, a) == "desynchronized"
            fetch(conn, interner, a)
            assert held(conn, a) == (of(a, *keep) if keep else a.records)
            assert keeps_of(conn, a) == (set(keep) or None)
        assert recount_stats(conn).ok
    assert all(audit_repo(conn, a.did).ok for a in authors)
    with conn.transaction():
        assert next_comparison(conn, 10) is None


def test_interrupted_pruning_continues(
    conn: Conn, interner: Interner, apply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = written()
    fetch(conn, interner, a)
    choose(conn, NOTE)
    monkeypatch.setattr(selected, "_ROWS", 3)
    real, pages = selected._prune, []

    def killed(*given: Any) -> Any:
        pages.append(1)
        if len(pages) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(selected, "_prune", killed)
    with pytest.raises(KeyboardInterrupt):
        compare_all(conn, interner)
    assert keeps_of(conn, a) == {NOTE}, "it says at once that it is not whole"
    assert audit_repo(conn, a.did).fault is not None, "and the rest is seen as too much"
    conn.rollback()
    apply(a.write(POST, post("meanwhile"))[1])
    compare_all(conn, interner)
    assert held(conn, a) == of(a, NOTE)
    assert recount_stats(conn).ok


def test_new_scope_restarts_comparison(conn: Conn, interner: Interner) -> None:
    for n in (1, 3, 5):
        fetch(conn, interner, written(n))
    choose(conn, NOTE)
    with conn.transaction():
        page = next_comparison(conn, 2)
    assert page is not None
    choose(conn, POST)
    with conn.transaction():
        note_compared(conn, page)
        again = next_comparison(conn, 2)
    assert again is not None
    assert again.dids == page.dids
    with conn.transaction():
        set_scope(conn, ScopeKind.DIDS, seeds=[author(1).did], keep=[POST])
        assert load_scope(conn).keep == (POST,)
        set_scope(conn, ScopeKind.NETWORK, keep=[POST])


@pytest.mark.parametrize("seed", range(6))
def test_rows_match_selection_in_any_history(
    conn: Conn, interner: Interner, apply: Any, seed: int
) -> None:
    chance = random.Random(seed)
    authors = [author(1), author(3)]
    choices: Sequence[tuple[str, ...]] = (
        (), (NOTE,), (NOTES, POST), (NOTE, POST, LIKE), (LIKE,), (NOTE, NOTES),
    )  # fmt: skip
    for _ in range(60):
        a = chance.choice(authors)
        step = chance.random()
        if step < 0.6 or a.rev is None:
            changes: dict[str, Any] = {}
            for _ in range(chance.randrange(1, 4)):
                nsid = chance.choice((NOTE, NOTES))
                path = f"{nsid}/{chance.randrange(6)}"
                gone = path in a.records and chance.random() < 0.4
                changes[path] = (
                    None if gone else {"$type": nsid, "n": chance.randrange(10**9)}
                )
            event = a.commit(changes)
            if chance.random() < 0.9:
                apply(event)
            apply(a.write(POST, post("x"))[1])
            apply(a.write(LIKE, like(a.uri(f"{NOTE}/1")))[1])
        elif step < 0.75:
            choose(conn, *chance.choice(choices))
        elif step < 0.9:
            compare_all(conn, interner, page=1)
        else:
            fetch(conn, interner, a)
        for each in authors:
            if each.rev is not None and state_of(conn, each) == "synchronized":
                keeps = keeps_of(conn, each)
                right = each.records if keeps is None else of(each, *keeps)
                assert held(conn, each) == right
    assert recount_stats(conn).ok
    compare_all(conn, interner)
    wanted = wanted_selection(conn)
    conn.rollback()
    for each in authors:
        if each.rev is not None:
            fetch(conn, interner, each)
            keeps = keeps_of(conn, each)
            assert keeps == (None if wanted is None else set(wanted.collections))


def test_scope_requires_its_collections(conn: Conn) -> None:
    with pytest.raises(UnkeptError, match="follow"):
        set_scope(conn, ScopeKind.FOLLOWS, seeds=[author(1).did], keep=[POST])
    with pytest.raises(UnkeptError, match=NOTE):
        set_scope(conn, ScopeKind.COLLECTION, collections=[NOTE], keep=[POST])
    set_scope(conn, ScopeKind.COLLECTION, collections=[NOTE], keep=[POST, NOTE])
    conn.rollback()
