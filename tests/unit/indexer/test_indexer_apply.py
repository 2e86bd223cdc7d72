"""Batches of events: exactly once, in order, all or nothing."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
import pytest
from indexer_steps import Apply, assert_indexed
from indexer_world import (
    FOLLOW,
    LIKE,
    NOW,
    POST,
    PROFILE,
    author,
    follow,
    held_post_counts,
    held_records,
    like,
    post,
    profile,
    quote,
    reply,
    repo_row,
    repost,
)

from audit.repo_audit import audit_repo, recount_stats
from indexer import apply as apply_module
from indexer.apply import apply_batch
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent, CommitEvent, IdentityEvent
from protocol.mst import EMPTY_ROOT
from protocol.syntax import Tid
from storage.cursors import load_cursor
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner
from storage.repos.account_status import asking_time
from storage.repos.resync_buffer import load_commits


def test_records_links_and_counts(conn: Conn, apply: Apply) -> None:
    a, b = author(0), author(1)
    path, first = a.write(POST, post("first"))
    uri = a.uri(path)
    events = [first]
    for nsid, value in (
        (LIKE, like(uri)),
        (POST, reply(uri, uri)),
        (POST, quote(uri)),
        ("app.bsky.feed.repost", repost(uri)),
        (FOLLOW, follow(a.did)),
    ):
        events.append(b.write(nsid, value)[1])
    result = apply(*events)
    assert (result.applied, result.records) == (6, 6)
    assert_indexed(conn, [a, b])
    assert held_post_counts(conn) == {uri: (1, 1, 1, 1)}


def test_many_commits_of_one_record_in_one_batch(conn: Conn, apply: Apply) -> None:
    a = author(0)
    path, create = a.write(POST, post("one"))
    edit = a.commit({path: post("two")})
    remove = a.commit({path: None})
    again = a.commit({path: post("three")})
    name = a.commit({f"{PROFILE}/self": profile("A")})
    rename = a.commit({f"{PROFILE}/self": profile("B")})
    gone_path, gone = a.write(LIKE, like(a.uri(path)))
    ungone = a.commit({gone_path: None})
    apply(create, edit, remove, again, name, rename, gone, ungone)
    assert_indexed(conn, [a])
    row = conn.execute("SELECT display_name FROM profile").fetchone()
    assert row == ("B",)


def test_replay_changes_nothing(conn: Conn, apply: Apply) -> None:
    a, b = author(0), author(1)
    events = []
    for number in range(10):
        path, event = a.write(POST, post(f"post {number}"))
        events += [event, b.write(LIKE, like(a.uri(path)))[1]]
    apply(*events)
    result = apply(*events)
    assert (result.applied, result.ignored) == (0, 20)
    shuffled = list(events)
    random.Random(4).shuffle(shuffled)
    for event in shuffled:
        assert apply(event).drops[DropReason.STALE_REV] == 1
    assert_indexed(conn, [a, b])


def test_unknown_account_is_left_to_a_fetch(conn: Conn, apply: Apply) -> None:
    a = author(0)
    a.write(POST, post("before we knew"))
    result = apply(a.write(POST, post("now"))[1])
    assert result.desynchronized == []
    assert result.drops == {DropReason.DESYNCHRONIZED: 1}
    assert repo_row(conn, a.did) == ("desynchronized", None, None)
    assert held_records(conn) == {}


def test_first_commit_must_hold_the_whole_tree(conn: Conn, apply: Apply) -> None:
    honest, liar = author(0), author(1)
    good = honest.write(POST, post("mine"))[1]
    assert good.prev_data == EMPTY_ROOT
    liar.write(POST, post("hidden"))
    bad = liar.write(POST, post("shown"))[1]
    object.__setattr__(bad, "since", None)
    object.__setattr__(bad, "prev_data", EMPTY_ROOT)
    result = apply(good, bad)
    assert (result.applied, result.ignored) == (1, 1)
    assert repo_row(conn, liar.did)[0] == "desynchronized"
    assert_indexed(conn, [honest])


@pytest.mark.parametrize("lost", range(1, 6))
def test_lost_commit_desynchronizes(conn: Conn, apply: Apply, lost: int) -> None:
    a, b = author(0), author(1)
    events = [a.write(POST, post(str(n)))[1] for n in range(7)]
    other = b.write(POST, post("unharmed"))[1]
    result = apply(*events[:lost], *events[lost + 1 :], other)
    assert result.desynchronized == [a.did]
    assert result.drops[DropReason.DESYNCHRONIZED] >= 1
    assert repo_row(conn, a.did)[:2] == ("desynchronized", events[lost - 1].rev)
    assert repo_row(conn, b.did)[0] == "synchronized"
    assert len(held_records(conn)) == lost + 1


def test_missing_prev_data_desynchronizes(conn: Conn, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    event = a.write(POST, post("two"))[1]
    object.__setattr__(event, "prev_data", None)
    assert apply(event).desynchronized == [a.did]


def test_fetch_error_is_kept_until_success(conn: Conn, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    conn.execute("UPDATE repo SET state = 'desynchronized', error = 'no answer'")
    conn.commit()
    apply(a.write(POST, post("two"))[1])
    row = conn.execute("SELECT upstream_rev, error FROM repo").fetchone()
    assert row == (a.rev, "no answer")


def test_commits_wait_while_their_repo_is_fetched(conn: Conn, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    conn.execute("UPDATE repo SET state = 'resyncing'")
    conn.commit()
    events = [a.write(POST, post("two"))[1], a.write(POST, post("three"))[1]]
    assert apply(*events).buffered == 2
    actor = conn.execute("SELECT id FROM actor WHERE did = %s", (a.did,)).fetchone()
    assert actor is not None
    assert load_commits(conn, actor[0]) == events
    conn.rollback()
    assert len(held_records(conn)) == 1


def test_sync_event(conn: Conn, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    assert apply(a.sync()).ignored == 1
    assert repo_row(conn, a.did)[0] == "synchronized"
    empty = a.commit({})
    assert empty.data == empty.prev_data
    result = apply(a.sync())
    assert (result.applied, result.desynchronized) == (1, [])
    assert repo_row(conn, a.did) == ("synchronized", a.rev, a.data)
    a.write(POST, post("unseen"))
    assert apply(a.sync()).desynchronized == [a.did]
    assert repo_row(conn, a.did)[0] == "desynchronized"


def test_empty_commit_moves_the_head(conn: Conn, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    apply(a.commit({}))
    assert_indexed(conn, [a])


def test_empty_commit_without_prev_data_is_not_first(conn: Conn, apply: Apply) -> None:
    # Nothing in its frame is proven, and the frame would be rebroadcast.
    a = author(0)
    began = CommitEvent(a.did, Tid("3jzfcijpj2z2a"), None, EMPTY_ROOT, None, b"c", [])  # type: ignore[arg-type]
    result = apply(began)
    assert (result.applied, result.ignored) == (0, 1)
    assert apply(replace(began, prev_data=EMPTY_ROOT)).applied == 1


def test_inactive_account(conn: Conn, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    away = AccountEvent(a.did, False, "deactivated", 5, 1)  # type: ignore[arg-type]
    result = apply(away, a.write(POST, post("unheard"))[1])
    assert result.drops == {DropReason.INACTIVE_ACCOUNT: 1}
    assert conn.execute("SELECT upstream_status FROM actor").fetchall() == [
        ("deactivated",)
    ]
    conn.rollback()
    back = AccountEvent(a.did, True, None, 7, 1)  # type: ignore[arg-type]
    assert apply(back).desynchronized == [a.did]
    assert repo_row(conn, a.did)[0] == "desynchronized"


def test_newer_account_event_overrules_reply(conn: Conn, apply: Apply) -> None:
    a = author(0)

    def status() -> str:
        row = conn.execute("SELECT upstream_status FROM actor").fetchone()
        conn.rollback()
        return str(row and row[0])

    def answer(active: bool, asked_at: datetime) -> AccountEvent:
        # From a listing, getRepoStatus, or a refused getRepo.
        word = None if active else "takendown"
        return AccountEvent(a.did, active, word, host=1, asked_at=asked_at)  # type: ignore[arg-type]

    apply(a.write(POST, post("one"))[1])
    before = asking_time(conn)
    conn.rollback()
    apply(AccountEvent(a.did, False, "deactivated", 5, 1))  # type: ignore[arg-type]
    assert apply(answer(True, before)).ignored == 1
    assert apply(answer(False, before)).ignored == 1
    assert status() == "deactivated"
    after = asking_time(conn)
    conn.rollback()
    apply(answer(False, after))
    assert status() == "takendown"
    # An event of the host always counts.
    apply(AccountEvent(a.did, True, None, 6, 1))  # type: ignore[arg-type]
    assert status() == "active"


def test_local_takedown_is_another_column(conn: Conn, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    conn.execute("UPDATE actor SET takedown = 'spam'")
    conn.commit()
    apply(AccountEvent(a.did, False, "suspended", 5, 1))  # type: ignore[arg-type]
    apply(AccountEvent(a.did, True, None, 6, 1))  # type: ignore[arg-type]
    row = conn.execute("SELECT upstream_status, takedown FROM actor").fetchone()
    assert row == ("active", "spam")


def test_unknown_status_is_inactive(conn: Conn, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    apply(AccountEvent(a.did, False, "abducted", 5, 1))  # type: ignore[arg-type]
    row = conn.execute("SELECT upstream_status FROM actor").fetchone()
    assert row == ("inactive",)


def test_identity_event_requests_refresh(conn: Conn, apply: Apply) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    conn.execute("UPDATE actor SET handle = 'a.test', handle_checked_at = now()")
    conn.execute("INSERT INTO identity (did, document) VALUES (%s, '{}')", (a.did,))
    conn.commit()
    apply(IdentityEvent(a.did, None, 9, 1))  # type: ignore[arg-type]
    row = conn.execute("SELECT handle, handle_checked_at FROM actor").fetchone()
    assert row == ("a.test", None)
    row = conn.execute("SELECT fetched_at < now() - interval '1 year' FROM identity")
    assert row.fetchone() == (True,)


def test_cursor_and_rows_are_one(
    conn: Conn, apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = author(0)
    apply(a.write(POST, post("one"))[1])
    event = a.write(POST, post("two"))[1]

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    for place in (
        "apply.save_cursors",
        "batch.save_repos",
        "apply.apply_stats",
        "batch.count_drops",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"indexer.{place}", fail)
            with pytest.raises(ZeroDivisionError):
                apply(event)
        assert load_cursor(conn, 1) == 1
        assert len(held_records(conn)) == 1
        conn.rollback()
    apply(event)
    assert load_cursor(conn, 1) == 2
    conn.rollback()
    assert_indexed(conn, [a])


def test_cursor_never_moves_back(conn: Conn, apply: Apply) -> None:
    apply(cursors={1: 50, 2: 7})
    apply(cursors={1: 40})
    assert (load_cursor(conn, 1), load_cursor(conn, 2)) == (50, 7)


def test_open_transaction_is_refused(conn: Conn, apply: Apply) -> None:
    conn.execute("SELECT 1")
    with pytest.raises(RuntimeError, match="inside a transaction"):
        apply(cursors={1: 1})


def test_conflicts_are_tried_again(
    conn: Conn, apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = author(0)
    calls = []
    real = apply_module.save_cursors

    def flaky(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise psycopg.errors.DeadlockDetected
        real(*args, **kwargs)

    monkeypatch.setattr(apply_module, "save_cursors", flaky)
    assert apply(a.write(POST, post("one"))[1]).applied == 1
    assert len(calls) == 3
    assert_indexed(conn, [a])


def test_two_shards_count_one_post(index_db: str, pool: Pool) -> None:
    target = author(0)
    path, event = target.write(POST, post())
    others = [author(n) for n in range(1, 9)]
    interner = Interner(pool)
    with psycopg.connect(index_db) as conn:
        apply_batch(conn, interner, [event], {}, NOW)
    failures: list[BaseException] = []

    def run(shard: int) -> None:
        try:
            mine = others[shard::2]
            with psycopg.connect(index_db) as conn:
                for round_ in range(15):
                    events = []
                    for someone in mine:
                        events.append(someone.write(LIKE, like(target.uri(path)))[1])
                        whom = others[round_ % 8]
                        events.append(someone.write(FOLLOW, follow(whom.did))[1])
                    if round_ % 2:
                        events.reverse()
                        events.sort(key=lambda e: e.rev)
                    apply_batch(conn, interner, events, {shard: round_}, NOW)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(shard,)) for shard in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with psycopg.connect(index_db) as conn:
        assert_indexed(conn, [target, *others])
        assert held_post_counts(conn) == {target.uri(path): (8, 0, 0, 0)}


def test_audit_sees_a_lost_row(conn: Conn, apply: Apply) -> None:
    a = author(0)
    for number in range(5):
        apply(a.write(POST, post(str(number)))[1])
    assert audit_repo(conn, a.did).ok
    conn.execute("DELETE FROM record WHERE rkey = (SELECT min(rkey) FROM record)")
    conn.commit()
    audit = audit_repo(conn, a.did)
    assert not audit.ok
    assert (audit.records, audit.data) == (4, audit.signed)


def test_recount_sees_and_repairs_wrong_counts(conn: Conn, apply: Apply) -> None:
    a, b = author(0), author(1)
    path, event = a.write(POST, post())
    apply(event, b.write(LIKE, like(a.uri(path)))[1], b.write(FOLLOW, follow(a.did))[1])
    conn.execute("UPDATE post_stats SET likes = 7")
    conn.execute("DELETE FROM actor_stats")
    conn.execute("INSERT INTO subject_stats VALUES (1, 4, 9, 3)")
    conn.commit()
    audit = recount_stats(conn, repair=True)
    assert audit.wrong == {
        "post_stats": 1,
        "subject_stats": 1,
        "actor_stats": 2,
        "activity": 0,
    }
    assert_indexed(conn, [a, b])
