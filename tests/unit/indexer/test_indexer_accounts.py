"""Deleted, returning and hidden accounts; handles; the search outbox."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest
from indexer_steps import Apply, actor_id, all_kinds, leave
from indexer_world import (
    CLOCK,
    NOW,
    POST,
    Author,
    author,
    held_actor_counts,
    held_post_counts,
    held_records,
    post,
    repo_row,
    written_records,
)
from psycopg.errors import AdminShutdown, DeadlockDetected

from audit.repo_audit import recount_stats
from indexer import account as account_module
from indexer.account import PURGE_JOB, NotDeletedError, purge_account, purge_deleted
from indexer.collections.registry import OWNED_TABLES
from indexer.repos.checkout import Checkout
from indexer.repos.repo_states import lock_repos
from protocol.data.cid import cid_for
from protocol.events.event import AccountEvent
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.records.links import BY_SOURCE
from storage.schema import metadata


@pytest.mark.parametrize("page", [3, 2_000])
def test_purge_leaves_no_row(
    conn: Conn,
    interner: Interner,
    apply: Apply,
    monkeypatch: pytest.MonkeyPatch,
    page: int,
) -> None:
    monkeypatch.setattr(account_module, "_PURGE_ROWS", page)
    a, b = author(0), author(1)
    path, event = b.write(POST, post("theirs"))
    apply(event)
    writes = all_kinds(a, b, b.uri(path))
    apply(a.commit(writes, {"not a path": cid_for(b"x")}))
    actor = actor_id(conn, a.did)
    # Made after the commit, and of a deletion.
    conn.execute(
        "INSERT INTO distant_reply"
        " (actor, rkey, height, recipient, subject_rkey, sort_at)"
        " VALUES (%(actor)s, 1, 2, %(actor)s, 2, now());"
        "INSERT INTO removed_verification (actor, rkey, recipient, removed_at)"
        " VALUES (%(actor)s, 1, %(actor)s, now())".replace("%(actor)s", str(actor))
    )
    conn.commit()
    held = {
        table
        for table in OWNED_TABLES
        if conn.execute(f"SELECT FROM {table} WHERE actor = %s", (actor,)).fetchone()
        is not None
    }
    # Every table is filled, except the buffer of a fetch.
    assert held == {*OWNED_TABLES} - {"resync_buffer", "record_json"}
    conn.rollback()
    assert held_post_counts(conn) == {b.uri(path): (1, 1, 1, 1)}
    conn.rollback()
    assert leave(conn, apply, a) == actor
    jobs = conn.execute("SELECT kind, key FROM job").fetchall()
    assert jobs == [(PURGE_JOB, a.did)]
    conn.rollback()
    assert purge_account(conn, interner, actor, NOW) == len(writes)
    for table in OWNED_TABLES:
        row = conn.execute(f"SELECT FROM {table} WHERE actor = %s", (actor,))
        assert row.fetchone() is None, table
    assert conn.execute(
        "SELECT rev, data, commit, state FROM repo WHERE actor = %s", (actor,)
    ).fetchone() == (None, None, None, "desynchronized")
    assert held_post_counts(conn) == {}
    assert held_actor_counts(conn) == {b.did: (0, 0, 1)}
    conn.rollback()
    assert recount_stats(conn).ok


def test_removal_scans_no_large_link_table(
    conn: Conn, interner: Interner, apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_module, "_MOST_LINK_BYTES", 0)
    gone = author(0)
    apply(
        gone.commit({f"{POST}/{CLOCK.next()}": post()}),
        AccountEvent(gone.did, False, "deleted", host=1),  # type: ignore[arg-type]
    )
    actor = interner.actors([gone.did])[gone.did]
    # Links without a record: an index finds the second.
    conn.execute("INSERT INTO link VALUES (1, 1, %s, 1, 1, 1, now())", (actor,))
    conn.execute("INSERT INTO link VALUES (1, 1, %s, 1, 1, 5000, now())", (actor,))
    conn.commit()
    purge_account(conn, interner, actor, NOW)
    assert conn.execute("SELECT path FROM link").fetchall() == [(1,)]


def test_partitions_with_an_index_by_source_are_known(conn: Conn) -> None:
    rows = conn.execute(
        "SELECT tablename FROM pg_indexes WHERE tablename LIKE 'link%'"
        " AND indexdef LIKE '%(actor, %'"
    )
    assert {name for (name,) in rows} == BY_SOURCE


def test_every_table_with_an_actor_is_owned_or_accounted_for() -> None:
    """A new table with an actor must be added to OWNED_TABLES, or here."""
    others = {
        "repo",  # its row stays, emptied
        "label",  # what others say of the account
        "post_stats",  # counts of others' records
        "subject_stats",
        "actor_stats",
        "search_outbox",  # work that is done in a moment
        "audit_sample",  # when we last compared it
        "popular",  # computed anew every minute
        "export_account",  # what a folder holds, until its tombstone is written
    }
    with_actor = {t.name for t in metadata.tables.values() if "actor" in t.columns}
    assert with_actor == {*OWNED_TABLES} | others


def test_purge_needs_a_deletion(conn: Conn, interner: Interner, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("alive"))[1])
    with pytest.raises(NotDeletedError):
        purge_account(conn, interner, actor_id(conn, a.did), NOW)
    assert conn.execute("SELECT rev IS NOT NULL FROM repo").fetchone() == (True,)


def test_deletions_are_done_once(conn: Conn, interner: Interner, apply: Apply) -> None:
    a, b, c = author(0), author(1), author(2)
    apply(*(someone.write(POST, post("x"))[1] for someone in (a, b, c)))
    leave(conn, apply, a)
    leave(conn, apply, b)
    # It came back before its purge: nothing of it may go.
    apply(AccountEvent(b.did, True, None, 101, 1))  # type: ignore[arg-type]
    assert purge_deleted(conn, interner, NOW, limit=10) == 1
    assert purge_deleted(conn, interner, NOW, limit=10) == 0
    assert {did for did, _ in held_records(conn)} == {b.did, c.did}
    assert conn.execute("SELECT count(*) FROM job").fetchone() == (0,)


def test_interrupted_purge_continues_soon(
    conn: Conn, interner: Interner, apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = author(0)
    for n in range(5):
        apply(a.write(POST, post(f"{n}"))[1])
    leave(conn, apply, a)
    monkeypatch.setattr(account_module, "_PURGE_ROWS", 2)
    remove = account_module.remove_page
    failures = [None, DeadlockDetected(), None, AdminShutdown()]

    def failing(*args: Any) -> Any:
        result = remove(*args)
        failure = failures.pop(0) if failures else None
        if failure is not None:
            raise failure
        return result

    monkeypatch.setattr(account_module, "remove_page", failing)
    # After a deadlock the page is repeated. When the server goes down, the
    # work is not lost for longer than a few minutes.
    with pytest.raises(AdminShutdown):
        purge_deleted(conn, interner, NOW, limit=10)
    assert len(held_records(conn)) == 1
    row = conn.execute(
        "SELECT extract(epoch FROM lease_until - now())::float8 FROM job"
    ).fetchone()
    conn.rollback()
    assert row is not None
    assert 0 < row[0] <= 300
    conn.execute("UPDATE job SET lease_until = now()")
    conn.commit()
    assert purge_deleted(conn, interner, NOW, limit=10) == 1
    assert held_records(conn) == {}


def test_first_commit_waits_for_interrupted_removal(
    conn: Conn, interner: Interner, apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_module, "_PURGE_ROWS", 2)
    gone = author(0)
    texts = {f"{POST}/{CLOCK.next()}": post(f"old {number}") for number in range(5)}
    apply(gone.commit(dict(texts)), AccountEvent(gone.did, False, "deleted", host=1))  # type: ignore[arg-type]
    actor = interner.actors([gone.did])[gone.did]
    account_module._purge_page(conn, interner, actor, NOW, None)
    back = Author(gone.did, seq=9)
    first = back.commit({f"{POST}/{CLOCK.next()}": post("new")})
    apply(AccountEvent(gone.did, True, host=1), first)  # type: ignore[arg-type]
    assert repo_row(conn, gone.did)[0] == "desynchronized"
    with Checkout(conn, interner, back.did, 1, now=NOW) as checkout:
        checkout.add(back.repo_records())
        checkout.finish(back.head())
    assert held_records(conn) == written_records([back])


def test_import_sees_deletion(conn: Conn, index_db: str, apply: Apply) -> None:
    """A fetch that ends during the deletion must not restore the records."""
    a = author(0)
    apply(a.write(POST, post("x"))[1])
    actor = actor_id(conn, a.did)
    seen: list[str] = []

    def wait() -> None:
        with psycopg.connect(index_db) as other, other.transaction():
            seen.append(lock_repos(other, {actor: None}, [])[actor].status)

    with conn.transaction():
        lock_repos(conn, {actor: None}, [])
        account_module.save_statuses(conn, {actor: "deleted"})
        thread = threading.Thread(target=wait)
        thread.start()
        with psycopg.connect(index_db, autocommit=True) as watcher:
            waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while watcher.execute(waiting).fetchone() is None:
                time.sleep(0.01)
    thread.join(30)
    assert seen == ["deleted"]
