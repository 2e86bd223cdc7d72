"""Accounts that go, come back, or are hidden; handles; what a search engine hears."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from indexer_world import (
    CLOCK,
    CREATED,
    FOLLOW,
    LIKE,
    NOW,
    POST,
    PROFILE,
    Author,
    author,
    follow,
    held_actor_counts,
    held_post_counts,
    held_records,
    like,
    post,
    profile,
    quote,
    reference,
    reply,
    repo_row,
    written_records,
)
from psycopg.errors import AdminShutdown, DeadlockDetected

from audit.repo_audit import recount_stats
from indexer import account as account_module
from indexer.account import (
    PURGE_JOB,
    NotDeletedError,
    purge_account,
    purge_deleted,
    set_takedown,
)
from indexer.apply import apply_batch
from indexer.batch import BatchResult
from indexer.collections.registry import OWNED_TABLES
from indexer.collections.texts import TEXTS
from indexer.identity import save_handles
from indexer.repos.checkout import Checkout
from indexer.repos.repo_states import lock_repos
from protocol.data.cid import cid_for
from protocol.events.event import AccountEvent
from search.documents import ActorDocument, Document, RecordDocument
from search.drain import drain_outbox, queue_everything
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.interning import Interner
from storage.records.links import BY_SOURCE
from storage.schema import metadata

Apply = Callable[..., BatchResult]


class FakeEngine:
    """A search engine that is two dictionaries."""

    def __init__(self) -> None:
        self.records: dict[Address, RecordDocument] = {}
        self.actors: dict[int, ActorDocument] = {}
        self.broken = False

    def put(self, conn: Any, documents: Sequence[Document]) -> None:
        if self.broken:
            raise ConnectionError
        for document in documents:
            if isinstance(document, RecordDocument):
                self.records[document.address] = document
            else:
                self.actors[document.actor] = document

    def delete(
        self, conn: Any, addresses: Sequence[Address], actors: Sequence[int]
    ) -> None:
        for address in addresses:
            self.records.pop(address, None)
        for actor in actors:
            self.actors.pop(actor, None)
            for address in [a for a in self.records if a.actor == actor]:
                del self.records[address]

    def clear(self, conn: Any) -> None:
        self.records.clear()
        self.actors.clear()

    @property
    def texts(self) -> set[str]:
        return {document.text for document in self.records.values()}


def drain(conn: Conn, engine: FakeEngine) -> None:
    while drain_outbox(conn, engine, TEXTS, 50):
        pass


def all_kinds(someone: Author, other: Author, target: str) -> dict[str, Any]:
    """A record of every collection with rows or edges of its own."""
    own_list = someone.uri("app.bsky.graph.list/3laaaaaaaaa22")
    gate = {"post": target, "createdAt": CREATED}

    def record(nsid: str, **fields: Any) -> dict[str, Any]:
        return {"$type": nsid, "createdAt": CREATED, **fields}

    return {
        f"{PROFILE}/self": profile("Somebody"),
        f"{POST}/3laaaaaaaaa22": post("plain words", langs=["en"]),
        f"{POST}/3laaaaaaaaa23": reply(target, target, "answered words"),
        f"{POST}/3laaaaaaaaa24": quote(target, "quoting words"),
        f"{LIKE}/3laaaaaaaaa22": like(target),
        f"{LIKE}/3laaaaaaaaa23": like(target),
        f"{FOLLOW}/3laaaaaaaaa22": follow(other.did),
        "app.bsky.feed.repost/3laaaaaaaaa22": record(
            "app.bsky.feed.repost", subject=reference(target)
        ),
        "app.bsky.graph.block/3laaaaaaaaa22": record(
            "app.bsky.graph.block", subject=other.did
        ),
        "app.bsky.graph.list/3laaaaaaaaa22": record(
            "app.bsky.graph.list",
            name="friends",
            purpose="app.bsky.graph.defs#curatelist",
        ),
        "app.bsky.graph.listitem/3laaaaaaaaa22": record(
            "app.bsky.graph.listitem", list=own_list, subject=other.did
        ),
        "app.bsky.graph.listblock/3laaaaaaaaa22": record(
            "app.bsky.graph.listblock", subject=own_list
        ),
        "app.bsky.graph.starterpack/3laaaaaaaaa22": record(
            "app.bsky.graph.starterpack", name="begin here", list=own_list
        ),
        "app.bsky.feed.generator/3laaaaaaaaa22": record(
            "app.bsky.feed.generator", did=other.did, displayName="cats"
        ),
        "app.bsky.feed.threadgate/3laaaaaaaaa22": record(
            "app.bsky.feed.threadgate", **gate
        ),
        "app.bsky.feed.postgate/3laaaaaaaaa22": record(
            "app.bsky.feed.postgate", **gate
        ),
        "app.bsky.labeler.service/self": record("app.bsky.labeler.service"),
        "org.example.note/3laaaaaaaaa22": record(
            "org.example.note", title="A note", body="noted words", about=target
        ),
        "app.bsky.feed.threadgate/3laaaaaaaaa24": record("app.bsky.feed.threadgate"),
    }


def actor_id(conn: Conn, did: str) -> int:
    row = conn.execute("SELECT id FROM actor WHERE did = %s", (did,)).fetchone()
    conn.rollback()
    assert row is not None
    return int(row[0])


def leave(conn: Conn, apply: Apply, someone: Author, status: str = "deleted") -> int:
    apply(AccountEvent(someone.did, False, status, 99, 1))  # type: ignore[arg-type]
    return actor_id(conn, someone.did)


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
    held = {
        table
        for table in OWNED_TABLES
        if conn.execute(f"SELECT FROM {table} WHERE actor = %s", (actor,)).fetchone()
        is not None
    }
    # The test is worth what it fills: all but the buffer of a fetch.
    assert held == {*OWNED_TABLES} - {"resync_buffer"}
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


def test_a_removal_reads_no_large_table_of_links_whole(
    conn: Conn, interner: Interner, apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_module, "_MOST_LINK_BYTES", 0)
    gone = author(0)
    apply(
        gone.commit({f"{POST}/{CLOCK.next()}": post()}),
        AccountEvent(gone.did, False, "deleted", host=1),  # type: ignore[arg-type]
    )
    actor = interner.actors([gone.did])[gone.did]
    # Links that no record accounts for: an index finds the second.
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
    """A new table of an account's rows must be put on the list, or here."""
    others = {
        "repo",  # its row stays, emptied
        "label",  # what others say of the account
        "post_stats",  # counts of others' records
        "subject_stats",
        "actor_stats",
        "search_outbox",  # work that is done in a moment
        "audit_sample",  # when we last compared it
    }
    with_actor = {t.name for t in metadata.tables.values() if "actor" in t.columns}
    assert with_actor == {*OWNED_TABLES} | others


def test_purge_of_a_living_account_is_refused(
    conn: Conn, interner: Interner, apply: Apply
) -> None:
    a = author(0)
    apply(a.write(POST, post("alive"))[1])
    with pytest.raises(NotDeletedError):
        purge_account(conn, interner, actor_id(conn, a.did), NOW)
    assert conn.execute("SELECT rev IS NOT NULL FROM repo").fetchone() == (True,)


def test_queued_deletions_are_done_once(
    conn: Conn, interner: Interner, apply: Apply
) -> None:
    a, b, c = author(0), author(1), author(2)
    apply(*(someone.write(POST, post("x"))[1] for someone in (a, b, c)))
    leave(conn, apply, a)
    leave(conn, apply, b)
    # It came back before its turn: nothing of it may go.
    apply(AccountEvent(b.did, True, None, 101, 1))  # type: ignore[arg-type]
    assert purge_deleted(conn, interner, NOW, limit=10) == 1
    assert purge_deleted(conn, interner, NOW, limit=10) == 0
    assert {did for did, _ in held_records(conn)} == {b.did, c.did}
    assert conn.execute("SELECT count(*) FROM job").fetchone() == (0,)


def test_a_purge_that_is_broken_off_is_not_put_off_for_long(
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
    # A deadlock is nothing: that page is done again. When the server goes down, the
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


def test_a_first_commit_does_not_stand_on_what_a_removal_left(
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


def test_who_waited_for_a_repo_sees_that_its_account_has_ended(
    conn: Conn, index_db: str, apply: Apply
) -> None:
    """A fetch that ends while the deletion is being written must not bring the
    records of the account back."""
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


def test_search_follows_the_rows(conn: Conn, apply: Apply) -> None:
    engine = FakeEngine()
    a, b = author(0), author(1)
    path, event = b.write(POST, post("theirs"))
    apply(event, a.commit(all_kinds(a, b, b.uri(path))))
    drain(conn, engine)
    assert engine.texts == {
        "theirs",
        "plain words",
        "answered words",
        "quoting words",
        "",
        "noted words\nA note",
    }
    titles = {d.title for d in engine.records.values() if d.title}
    assert titles == {"friends", "begin here", "cats", "A note"}
    found = next(d for d in engine.records.values() if d.text == "theirs")
    assert (found.likes, found.reposts, found.replies, found.quote_count) == (
        1,
        1,
        1,
        1,
    )
    assert found.uri == b.uri(path)
    answer = next(d for d in engine.records.values() if d.text == "answered words")
    assert (answer.reply_parent, answer.features) == (b.uri(path), ("reply",))
    assert {d.display_name for d in engine.actors.values()} == {"Somebody"}
    apply(a.commit({f"{POST}/3laaaaaaaaa22": None, f"{PROFILE}/self": profile("New")}))
    apply(b.commit({path: post("theirs, edited")}))
    drain(conn, engine)
    assert "plain words" not in engine.texts
    assert "theirs" not in engine.texts
    assert "theirs, edited" in engine.texts
    assert {d.display_name for d in engine.actors.values()} == {"New"}


def test_hidden_accounts_leave_the_search_and_return(
    conn: Conn, interner: Interner, apply: Apply
) -> None:
    engine = FakeEngine()
    a, b = author(0), author(1)
    apply(b.write(POST, post("theirs"))[1])
    apply(a.write(POST, post("mine"))[1], a.commit({f"{PROFILE}/self": profile("A")}))
    drain(conn, engine)
    actor = leave(conn, apply, a, "deactivated")
    drain(conn, engine)
    assert (engine.texts, engine.actors) == ({"theirs"}, {})
    apply(AccountEvent(a.did, True, None, 100, 1))  # type: ignore[arg-type]
    drain(conn, engine)
    assert engine.texts == {"theirs", "mine"}
    assert [d.display_name for d in engine.actors.values()] == ["A"]
    set_takedown(conn, actor, "spam")
    drain(conn, engine)
    assert engine.texts == {"theirs"}
    set_takedown(conn, actor, None)
    drain(conn, engine)
    assert engine.texts == {"theirs", "mine"}


def test_failing_engine_loses_nothing(conn: Conn, apply: Apply) -> None:
    engine = FakeEngine()
    a = author(0)
    apply(a.write(POST, post("kept"))[1])
    engine.broken = True
    with pytest.raises(ConnectionError):
        drain_outbox(conn, engine, TEXTS, 10)
    engine.broken = False
    drain(conn, engine)
    assert engine.texts == {"kept"}
    assert drain_outbox(conn, engine, TEXTS, 10) == 0


def test_wiped_engine_is_filled_again(conn: Conn, apply: Apply) -> None:
    engine = FakeEngine()
    a, b = author(0), author(1)
    path, event = b.write(POST, post("theirs"))
    apply(event, a.commit(all_kinds(a, b, b.uri(path))))
    apply(b.commit({f"{PROFILE}/self": profile("B")}))
    drain(conn, engine)
    before = dict(engine.records), dict(engine.actors)
    queue_everything(conn, engine)
    assert engine.records == {}
    drain(conn, engine)
    assert (engine.records, engine.actors) == before


def test_one_drain_at_a_time(
    conn: Conn, index_db: str, interner: Interner, apply: Apply
) -> None:
    """Else the drain that read the older row could be the last to write."""
    a = author(0)
    path, event = a.write(POST, post("old"))
    apply(event)
    with psycopg.connect(index_db) as other:

        class Slow(FakeEngine):
            def put(self, conn: Any, documents: Sequence[Document]) -> None:
                edit = a.commit({path: post("new")})
                apply_batch(other, interner, [edit], {}, NOW)
                assert drain_outbox(other, FakeEngine(), TEXTS, 10) == 0
                super().put(conn, documents)

        engine = Slow()
        assert drain_outbox(conn, engine, TEXTS, 10) == 1
        assert engine.texts == {"old"}
    later = FakeEngine()
    drain(conn, later)
    assert later.texts == {"new"}


def test_handles(conn: Conn, apply: Apply) -> None:
    a, b = author(0), author(1)
    apply(a.write(POST, post("one"))[1], b.write(POST, post("two"))[1])
    first, second = actor_id(conn, a.did), actor_id(conn, b.did)
    engine = FakeEngine()
    drain(conn, engine)
    with conn.transaction():
        save_handles(conn, {first: "one.test"}, NOW)
    drain(conn, engine)
    assert engine.actors[first].handle == "one.test"
    with conn.transaction():
        save_handles(conn, {second: "one.test"}, NOW)
    drain(conn, engine)
    rows = conn.execute("SELECT id, handle FROM actor ORDER BY id").fetchall()
    assert {row for row in rows if row[0] in (first, second)} == {
        (first, None),
        (second, "one.test"),
    }
    assert engine.actors[second].handle == "one.test"
    assert engine.actors[first].handle is None
    # Whoever lost it is checked again: the answer may have been the older one.
    soon = conn.execute("SELECT actor FROM repo WHERE identity_at = 'epoch'")
    assert soon.fetchall() == [(first,)]
