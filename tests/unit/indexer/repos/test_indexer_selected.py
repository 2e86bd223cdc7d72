"""Repos of which only chosen collections are kept: what they hold is what they say."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg
import pytest
from indexer_world import (
    FOLLOW,
    LIKE,
    NOW,
    POST,
    PROFILE,
    Author,
    author,
    follow,
    held_records,
    like,
    post,
    profile,
    repo_row,
)

from audit.repo_audit import (
    audit_repo,
    compare_parts,
    describe_fault,
    recount_stats,
)
from indexer.batch import BatchResult
from indexer.repos import selected
from indexer.repos.checkout import Checkout, CheckoutResult
from indexer.repos.export import open_export
from indexer.repos.repo_batch import FetchedRepo, import_fresh
from indexer.repos.repo_diff import DiffMismatchError, apply_diff
from indexer.repos.selected import keep_wanted
from protocol.data.cid import cid_for
from protocol.errors import MissingBlockError
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.records.record_codec import compress
from storage.records.stats import StatsChange
from storage.repos.resync_buffer import put_commits
from storage.repos.scope_progress import load_progress
from storage.repos.scope_rows import ScopeKind, UnkeptError, load_scope, set_scope
from storage.repos.selections import next_comparison, note_compared, wanted_selection

NOTE = "org.example.note"
NOTES = "org.example.notebook"


def choose(conn: Conn, *keep: str) -> int | None:
    with conn.transaction():
        set_scope(conn, ScopeKind.NETWORK, keep=keep)
        wanted = wanted_selection(conn)
    return None if wanted is None else wanted.id


def keeps_of(conn: Conn, someone: Author) -> set[str] | None:
    row = conn.execute(
        "SELECT s.collections FROM repo JOIN actor ON actor.id = actor"
        " LEFT JOIN selection s ON s.id = selection WHERE did = %s",
        (someone.did,),
    ).fetchone()
    conn.rollback()
    assert row is not None
    return None if row[0] is None else set(row[0])


def of(someone: Author, *keep: str) -> dict[str, bytes]:
    return {
        path: raw
        for path, raw in someone.records.items()
        if path.partition("/")[0] in keep
    }


def held(conn: Conn, someone: Author) -> dict[str, bytes]:
    found = held_records(conn)
    conn.rollback()
    return {path: raw for (did, path), raw in found.items() if did == someone.did}


def state(conn: Conn, someone: Author) -> str:
    row = repo_row(conn, someone.did)
    conn.rollback()
    return str(row[0])


def fetch(conn: Conn, interner: Interner, someone: Author) -> CheckoutResult:
    """As a backfill does: what is wanted, and nothing else."""
    wanted = wanted_selection(conn)
    conn.rollback()
    records, drops = someone.repo_records(), someone.repo_drops()
    if wanted is not None:
        records = [each for each in records if each.collection in wanted.collections]
        drops = [each for each in drops if each.is_of(wanted.collections)]
    number = None if wanted is None else wanted.id
    with Checkout(
        conn, interner, someone.did, someone.host, selection=number, now=NOW
    ) as checkout:
        checkout.add(records)
        checkout.drop(drops)
        return checkout.finish(someone.head())


def compare_all(conn: Conn, interner: Interner, page: int = 2) -> None:
    """What the keeper of the scope does after a change."""
    while True:
        with conn.transaction():
            found = next_comparison(conn, page)
        if found is None:
            return
        for did in found.dids:
            keep_wanted(conn, interner, did, NOW)
        with conn.transaction():
            note_compared(conn, found)


def written(number: int = 0) -> Author:
    someone = author(number)
    other = author(number + 1)
    someone.commit({f"{PROFILE}/self": profile("Someone")})
    for n in range(4):
        path, _ = someone.write(POST, post(f"post {n}"))
        someone.write(LIKE, like(someone.uri(path)))
        someone.write(FOLLOW, follow(other.did))
        someone.commit({f"{NOTE}/note-{n}": {"$type": NOTE, "n": n}})
        someone.commit({f"{NOTES}/note-{n}": {"$type": NOTES, "n": n}})
    big = {f"{NOTE}/large": cid_for(b"1"), f"{POST}/large": cid_for(b"2")}
    someone.commit({}, big)  # type: ignore[arg-type]
    return someone


def dropped(conn: Conn) -> set[bytes]:
    rows = conn.execute("SELECT path FROM dropped_record").fetchall()
    conn.rollback()
    return {row[0] for row in rows}


def test_a_fetch_holds_the_chosen_collections_and_says_so(
    conn: Conn, interner: Interner
) -> None:
    choose(conn, NOTE, PROFILE)
    a = written()
    assert fetch(conn, interner, a).synchronized
    assert held(conn, a) == of(a, NOTE, PROFILE)
    assert keeps_of(conn, a) == {NOTE, PROFILE}
    assert dropped(conn) == {f"{NOTE}/large".encode()}
    assert recount_stats(conn).ok


def test_live_commits_verify_whole_and_are_kept_in_part(
    conn: Conn, interner: Interner, apply: Any
) -> None:
    choose(conn, NOTE)
    a = written()
    fetch(conn, interner, a)
    result: BatchResult = apply(
        a.commit(
            {
                f"{NOTE}/new": {"$type": NOTE, "n": 9},
                f"{NOTES}/new": {"$type": NOTES, "n": 9},
                f"{NOTE}/note-0": None,
                f"{NOTES}/note-0": None,
            },
            {f"{NOTE}/note-1": cid_for(b"3"), f"{NOTES}/note-1": cid_for(b"4")},
        ),
        a.write(POST, post("passed over"))[1],
    )
    assert (result.applied, result.desynchronized) == (2, [])
    assert held(conn, a) == of(a, NOTE)
    assert dropped(conn) == {f"{NOTE}/large".encode(), f"{NOTE}/note-1".encode()}
    assert repo_row(conn, a.did) == ("synchronized", a.rev, a.data)
    conn.rollback()
    # The chain counts whatever is in it.
    a.write(POST, post("never seen"))
    broken = apply(a.write(POST, post("behind a gap"))[1])
    assert broken.desynchronized == [a.did]
    fetch(conn, interner, a)
    assert held(conn, a) == of(a, NOTE)


def test_the_first_commit_of_all_is_kept_in_part(conn: Conn, apply: Any) -> None:
    choose(conn, NOTE)
    a = author(1)
    first = a.commit(
        {f"{NOTE}/a": {"$type": NOTE, "n": 1}, f"{PROFILE}/self": profile("A")}
    )
    assert apply(first).applied == 1
    apply(a.write(POST, post("no"))[1], a.write(NOTE, {"$type": NOTE, "n": 2})[1])
    assert held(conn, a) == of(a, NOTE)
    assert keeps_of(conn, a) == {NOTE}


def test_commits_that_waited_for_the_fetch_are_kept_in_part(
    conn: Conn, interner: Interner, apply: Any
) -> None:
    wanted = choose(conn, NOTE)
    a = written()
    with Checkout(conn, interner, a.did, a.host, selection=wanted, now=NOW) as checkout:
        head = a.head()
        records = [each for each in a.repo_records() if each.collection == NOTE]
        checkout.add(records)
        event = a.commit(
            {f"{NOTE}/b": {"$type": NOTE, "n": 5}, f"{POST}/3aaaaaaaaaaaa": post("b")}
        )
        actor = interner.actors([a.did])[a.did]
        put_commits(conn, [(actor, event)])
        assert checkout.finish(head).buffered == 1
    assert held(conn, a) == of(a, NOTE)
    assert repo_row(conn, a.did)[1] == a.rev


def test_small_repos_go_in_together_in_part(conn: Conn, interner: Interner) -> None:
    number = choose(conn, NOTE)
    authors = [written(n) for n in (1, 3)]
    with conn.transaction():
        conn.execute("INSERT INTO actor (did) SELECT unnest(%s::text[])",
                     ([a.did for a in authors],))  # fmt: skip
        conn.execute(
            "INSERT INTO repo (actor, state) SELECT id, 'resyncing' FROM actor"
        )
    repos = [
        FetchedRepo(
            a.did,  # type: ignore[arg-type]
            1,
            a.head(),
            [each for each in a.repo_records() if each.collection == NOTE],
            [],
            number,
        )
        for a in authors
    ]
    assert import_fresh(conn, interner, repos, NOW) == []
    for a in authors:
        assert held(conn, a) == of(a, NOTE)
        assert keeps_of(conn, a) == {NOTE}


def test_what_was_fetched_for_another_wish_is_fetched_again(
    conn: Conn, interner: Interner
) -> None:
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


def test_wider_is_fetched_narrower_is_pruned(conn: Conn, interner: Interner) -> None:
    authors = [written(n) for n in (1, 3, 5)]
    for a in authors:
        fetch(conn, interner, a)
    compare_all(conn, interner)
    choose(conn, NOTE, POST)
    assert load_progress(conn).synchronized == 0
    conn.rollback()
    compare_all(conn, interner)
    for a in authors:
        assert state(conn, a) == "synchronized", "nothing had to be fetched"
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
            assert state(conn, a) == "desynchronized"
            fetch(conn, interner, a)
            assert held(conn, a) == (of(a, *keep) if keep else a.records)
            assert keeps_of(conn, a) == (set(keep) or None)
        assert recount_stats(conn).ok
    assert all(audit_repo(conn, a.did).ok for a in authors)
    with conn.transaction():
        assert next_comparison(conn, 10) is None


def test_a_pruning_that_is_killed_goes_on(
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


def test_large_records_are_pruned_a_few_at_a_time(
    conn: Conn, interner: Interner, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = written()
    fetch(conn, interner, a)
    choose(conn, NOTE)
    monkeypatch.setattr("storage.records.record_rows.PAGE_BYTES", 300)
    real, sizes = selected.apply_changes, []

    def watched(c: Conn, i: Interner, changes: Any, now: datetime) -> StatsChange:
        sizes.append(sum(len(change.old) for change in changes))
        return real(c, i, changes, now)

    monkeypatch.setattr(selected, "apply_changes", watched)
    compare_all(conn, interner)
    assert held(conn, a) == of(a, NOTE)
    assert sum(sizes) > 1_500
    assert max(sizes) < 700
    assert recount_stats(conn).ok


def test_a_scope_set_anew_begins_anew(conn: Conn, interner: Interner) -> None:
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


def test_a_partial_repo_is_not_brought_forward_by_a_difference(
    conn: Conn, interner: Interner
) -> None:
    choose(conn, NOTE)
    a = written()
    fetch(conn, interner, a)
    with conn.transaction():
        conn.execute("UPDATE repo SET state = 'resyncing'")
    assert a.rev is not None
    with pytest.raises(DiffMismatchError, match="collections"):
        apply_diff(conn, interner, a.did, 1, a.rev, None, NOW)  # type: ignore[arg-type]


def test_a_partial_repo_is_never_given_as_a_whole_one(
    conn: Conn, interner: Interner
) -> None:
    choose(conn, NOTE)
    a = author(2)
    a.commit({f"{NOTE}/a": {"$type": NOTE}})
    # All it has is of the collection: even then nothing proves that it is.
    fetch(conn, interner, a)
    actor = interner.actors([a.did])[a.did]
    with pytest.raises(MissingBlockError), open_export(conn, actor):
        pass
    conn.rollback()
    found = audit_repo(conn, a.did)
    assert found.ok
    assert (found.root, found.keeps) == (b"", {NOTE})


def listed(someone: Author, *keep: str) -> list[tuple[bytes, bytes]]:
    paths = {path: cid_for(raw) for path, raw in someone.records.items()}
    paths |= someone.dropped
    return sorted(
        (path.encode(), cid)
        for path, cid in paths.items()
        if path.partition("/")[0] in keep
    )


A = "(SELECT id FROM actor WHERE did = %(did)s)"
WRONGS = {
    "row missing": f"DELETE FROM record WHERE actor = {A} AND rkey ="
    " (SELECT max(rkey) FROM record)",
    "row changed": f"UPDATE record SET value = %(other)s WHERE actor = {A} AND rkey ="
    " (SELECT max(rkey) FROM record)",
    "row damaged": rf"UPDATE record SET value = '\x01ff' WHERE actor = {A} AND rkey ="
    " (SELECT max(rkey) FROM record)",
    "row too many": f"INSERT INTO record SELECT actor, collection, 77, value"
    f" FROM record WHERE actor = {A} AND rkey = (SELECT max(rkey) FROM record)",
    "drop forgotten": f"DELETE FROM dropped_record WHERE actor = {A}",
}


@pytest.mark.parametrize("name", WRONGS)
def test_the_host_s_nodes_tell_a_wrong_row(
    conn: Conn, interner: Interner, name: str
) -> None:
    choose(conn, NOTE, POST)
    a = written()
    fetch(conn, interner, a)
    assert a.rev is not None
    right = listed(a, NOTE, POST)
    assert compare_parts(conn, a.did, a.rev, right) is True
    assert compare_parts(conn, a.did, a.rev, right[:-1]) is False
    assert compare_parts(conn, a.did, "3aaaaaaaaaaaa", right) is None
    with conn.transaction():
        wrong = {"did": a.did, "other": compress(b"\xa0")}
        assert conn.execute(WRONGS[name], wrong).rowcount >= 1
    assert compare_parts(conn, a.did, a.rev, right) is False


def test_a_record_that_should_not_be_here_is_found_without_a_host(
    conn: Conn, interner: Interner
) -> None:
    choose(conn, NOTE)
    a = written()
    fetch(conn, interner, a)
    assert audit_repo(conn, a.did).ok
    with conn.transaction():
        conn.execute(
            "UPDATE record SET collection = (SELECT id FROM collection"
            " WHERE nsid = %s) WHERE rkey = (SELECT max(rkey) FROM record)",
            (POST,),
        )
    found = audit_repo(conn, a.did)
    assert not found.ok
    assert describe_fault(found) == "a record of a collection that is not kept"


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_rows_are_what_the_repo_says(
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
            if each.rev is not None and state(conn, each) == "synchronized":
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


def test_accounts_must_be_told_from_what_is_kept(conn: Conn) -> None:
    with pytest.raises(UnkeptError, match="follow"):
        set_scope(conn, ScopeKind.FOLLOWS, seeds=[author(1).did], keep=[POST])
    with pytest.raises(UnkeptError, match=NOTE):
        set_scope(conn, ScopeKind.COLLECTION, collections=[NOTE], keep=[POST])
    set_scope(conn, ScopeKind.COLLECTION, collections=[NOTE], keep=[POST, NOTE])
    conn.rollback()
