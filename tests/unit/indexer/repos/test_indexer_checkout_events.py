"""Imports of whole repos with events, failures and other imports meanwhile."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from indexer_steps import Apply, Fetch, assert_indexed, written_author
from indexer_world import (
    CLOCK,
    LIKE,
    NOW,
    POST,
    author,
    held_records,
    like,
    post,
    repo_row,
    written_records,
)

from indexer.repos import checkout as checkout_module
from indexer.repos.checkout import Checkout, CheckoutBusyError, StaleCheckoutError
from protocol.events.event import AccountEvent
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.repos import repo_rows, resync_buffer


def test_commits_meanwhile_follow(
    conn: Conn, index_db: str, interner: Interner, apply: Apply
) -> None:
    a = written_author()
    records, head = a.repo_records(), a.head()
    with psycopg.connect(index_db) as other:
        with Checkout(other, interner, a.did, 1, now=NOW) as checkout:
            checkout.add(records)
            covered = a.commit({})
            object.__setattr__(covered, "rev", head.rev)
            path, event = a.write(POST, post("meanwhile"))
            # The empty commit is of the head's rev: already covered.
            event.since, event.prev_data = head.rev, head.data
            edit = a.commit({path: post("edited meanwhile")})
            assert apply(covered, event, edit).buffered == 3
            result = checkout.finish(head)
        assert (result.buffered, result.synchronized) == (3, True)
    assert_indexed(conn, [a])
    assert conn.execute("SELECT count(*) FROM resync_buffer").fetchone() == (0,)


def test_gap_in_what_came_meanwhile(
    conn: Conn, index_db: str, interner: Interner, apply: Apply, fetch: Fetch
) -> None:
    a = written_author()
    records, head = a.repo_records(), a.head()
    with (
        psycopg.connect(index_db) as other,
        Checkout(other, interner, a.did, 1, now=NOW) as checkout,
    ):
        checkout.add(records)
        a.write(POST, post("lost"))
        apply(a.write(POST, post("found"))[1])
        result = checkout.finish(head)
    assert not result.synchronized
    assert repo_row(conn, a.did)[:2] == ("desynchronized", head.rev)
    assert fetch(a).synchronized
    assert_indexed(conn, [a])


def test_sync_event_meanwhile(
    conn: Conn, index_db: str, interner: Interner, apply: Apply, fetch: Fetch
) -> None:
    a = written_author()
    records, head = a.repo_records(), a.head()
    with (
        psycopg.connect(index_db) as other,
        Checkout(other, interner, a.did, 1, now=NOW) as checkout,
    ):
        checkout.add(records)
        a.write(POST, post("rewritten"))
        assert apply(a.sync()).desynchronized == [a.did]
        assert not checkout.finish(head).synchronized
    assert repo_row(conn, a.did)[:2] == ("desynchronized", head.rev)
    assert fetch(a).synchronized
    assert_indexed(conn, [a])


@pytest.mark.parametrize("when", ["before it is opened", "while it is open"])
def test_lost_commit_meanwhile(
    conn: Conn, index_db: str, interner: Interner, fetch: Fetch, when: str
) -> None:
    a = written_author()
    fetch(a)
    repo_rows.mark_desynchronized(conn, [a.did], "a gap")
    (claimed,) = repo_rows.claim_repos(conn, limit=1, lease_s=60.0, per_host=1)
    conn.commit()
    records, head = a.repo_records(), a.head()

    def lose() -> None:
        a.write(POST, post("lost"))
        repo_rows.mark_desynchronized(conn, [a.did], "it could not be proven")
        conn.commit()

    if when == "before it is opened":
        lose()
    with (
        psycopg.connect(index_db) as other,
        Checkout(other, interner, a.did, 1, now=NOW) as checkout,
    ):
        checkout.add(records)
        if when == "while it is open":
            lose()
        assert not checkout.finish(head).synchronized
    assert repo_row(conn, a.did)[:2] == ("desynchronized", head.rev)
    conn.execute("UPDATE repo SET next_try = now()")
    (again,) = repo_rows.claim_repos(conn, limit=1, lease_s=60.0, per_host=1)
    assert again.did == claimed.did
    conn.commit()
    assert fetch(a).synchronized
    assert_indexed(conn, [a])


def test_nothing_is_seen_or_locked_before_finish(
    conn: Conn, index_db: str, interner: Interner, apply: Apply
) -> None:
    a, b = written_author(), author(1)
    with psycopg.connect(index_db) as other:
        with Checkout(other, interner, a.did, 1, now=NOW) as checkout:
            for _ in range(3):
                checkout.add(a.repo_records()[:10])
                break
            assert held_records(conn) == {}
            conn.rollback()
            # A live batch of other accounts and of this one is not blocked.
            conn.execute("SET lock_timeout = '2s'")
            conn.commit()
            target = a.uri(sorted(a.records)[3])
            apply(b.write(LIKE, like(target))[1], a.write(POST, post("x"))[1])
        # Left without finish: everything is rolled back.
        assert held_records(conn) == written_records([b])


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(
    "broken", ["delete_dropped_of", "lock_repos", "load_commits", "save_repos", "rows"]
)
def test_failure_anywhere_leaves_the_old_state(
    conn: Conn,
    apply: Apply,
    fetch: Fetch,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    fresh: bool,
) -> None:
    a = written_author()
    if not fresh:
        fetch(a)
    before, row = held_records(conn), conn.execute("SELECT rev FROM repo").fetchall()
    conn.rollback()
    path = sorted(a.records)[2]
    a.commit({path: None})
    a.write(POST, post("new"))

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        rows = "write" if fresh else "apply_changes"
        name = rows if broken == "rows" else broken
        patch.setattr(checkout_module, name, fail)
        with pytest.raises(ZeroDivisionError):
            fetch(a)
    assert held_records(conn) == before
    if not fresh:
        assert conn.execute("SELECT rev FROM repo").fetchall() == row
    conn.rollback()
    fetch(a)
    assert_indexed(conn, [a])


def test_one_import_at_a_time(
    conn: Conn, index_db: str, interner: Interner, fetch: Fetch
) -> None:
    a, b = written_author(), written_author(1)
    with (
        psycopg.connect(index_db) as other,
        Checkout(other, interner, a.did, 1, now=NOW),
    ):
        with pytest.raises(CheckoutBusyError):
            fetch(a)
        fetch(b)
    fetch(a)
    assert_indexed(conn, [a, b])


def test_deleted_account_is_not_brought_back(
    conn: Conn, interner: Interner, apply: Apply, fetch: Fetch
) -> None:
    a = written_author()
    fetch(a)
    apply(AccountEvent(a.did, False, "deleted", 9, 1))  # type: ignore[arg-type]
    with pytest.raises(StaleCheckoutError):
        fetch(a)


def test_buffer_overflow_repeats_fetch(
    conn: Conn,
    interner: Interner,
    apply: Apply,
    fetch: Fetch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resync_buffer, "MAX_COMMITS", 3)
    someone = written_author()
    fetch(someone)
    conn.execute("UPDATE repo SET state = 'resyncing'")
    conn.commit()
    records, head = someone.repo_records(), someone.head()
    for number in range(5):
        event = someone.commit({f"{POST}/{CLOCK.next()}": post(f"live {number}")})
        apply(event)
    assert conn.execute("SELECT count(*) FROM resync_buffer").fetchone() == (0,)
    assert repo_state(conn) == ("desynchronized", someone.rev)
    # The checkout opens late: the state is `resyncing` again, and the announced
    # rev still counts.
    with Checkout(conn, interner, someone.did, someone.host, now=NOW) as checkout:
        checkout.add(records)
        assert not checkout.finish(head).synchronized
    assert repo_state(conn)[0] == "desynchronized"
    fetch(someone)
    assert repo_state(conn)[0] == "synchronized"
    assert_indexed(conn, [someone])


def test_host_without_announced_rev_is_asked_less(conn: Conn, fetch: Fetch) -> None:
    someone = written_author()
    fetch(someone)
    conn.execute("UPDATE repo SET upstream_rev = %s", (CLOCK.next(),))
    conn.commit()
    waits = []
    for _ in range(4):
        assert not fetch(someone).synchronized
        row = conn.execute(
            "SELECT extract(epoch FROM next_try - now())::float8 FROM repo"
        ).fetchone()
        conn.rollback()
        assert row is not None
        waits.append(row[0])
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]


def repo_state(conn: Conn) -> tuple[Any, ...]:
    row = conn.execute("SELECT state, upstream_rev FROM repo").fetchone()
    assert row is not None
    conn.rollback()
    return row
