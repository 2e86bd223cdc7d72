"""Partial repos: their rows match their selection."""

from __future__ import annotations

from typing import Any

import pytest
from indexer_world import NOW, POST, PROFILE, Author, author, post, profile, repo_row
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

from audit.repo_audit import audit_repo, compare_parts, describe_fault, recount_stats
from indexer.batch import BatchResult
from indexer.repos.checkout import Checkout
from indexer.repos.export import open_export
from indexer.repos.repo_batch import FetchedRepo, import_fresh
from indexer.repos.repo_diff import DiffMismatchError, apply_diff
from protocol.data.cid import cid_for
from protocol.errors import MissingBlockError
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.records.record_codec import compress
from storage.repos.resync_buffer import put_commits


def test_fetch_keeps_the_chosen_collections(conn: Conn, interner: Interner) -> None:
    choose(conn, NOTE, PROFILE)
    a = written()
    assert fetch(conn, interner, a).synchronized
    assert held(conn, a) == of(a, NOTE, PROFILE)
    assert keeps_of(conn, a) == {NOTE, PROFILE}
    assert dropped(conn) == {f"{NOTE}/large".encode()}
    assert recount_stats(conn).ok


def test_live_commits_keep_a_part(conn: Conn, interner: Interner, apply: Any) -> None:
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
    # The chain advances with any content.
    a.write(POST, post("never seen"))
    broken = apply(a.write(POST, post("behind a gap"))[1])
    assert broken.desynchronized == [a.did]
    fetch(conn, interner, a)
    assert held(conn, a) == of(a, NOTE)


def test_first_commit_keeps_a_part(conn: Conn, apply: Any) -> None:
    choose(conn, NOTE)
    a = author(1)
    first = a.commit(
        {f"{NOTE}/a": {"$type": NOTE, "n": 1}, f"{PROFILE}/self": profile("A")}
    )
    assert apply(first).applied == 1
    apply(a.write(POST, post("no"))[1], a.write(NOTE, {"$type": NOTE, "n": 2})[1])
    assert held(conn, a) == of(a, NOTE)
    assert keeps_of(conn, a) == {NOTE}


def test_buffered_commits_keep_a_part(
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


def test_batch_of_small_repos_keeps_a_part(conn: Conn, interner: Interner) -> None:
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


def test_partial_repo_refuses_a_difference(conn: Conn, interner: Interner) -> None:
    choose(conn, NOTE)
    a = written()
    fetch(conn, interner, a)
    with conn.transaction():
        conn.execute("UPDATE repo SET state = 'resyncing'")
    assert a.rev is not None
    with pytest.raises(DiffMismatchError, match="collections"):
        apply_diff(conn, interner, a.did, 1, a.rev, None, NOW)  # type: ignore[arg-type]


def test_partial_repo_is_not_exported(conn: Conn, interner: Interner) -> None:
    choose(conn, NOTE)
    a = author(2)
    a.commit({f"{NOTE}/a": {"$type": NOTE}})
    # Even if all its records are of the collection, nothing proves it.
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
def test_host_nodes_show_a_wrong_row(conn: Conn, interner: Interner, name: str) -> None:
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


def test_record_outside_selection_is_a_fault(conn: Conn, interner: Interner) -> None:
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
