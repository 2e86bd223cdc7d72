"""Whole repos: fresh, again, with deletes, and what arrives meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from indexer_world import (
    CLOCK,
    LIKE,
    NOW,
    POST,
    PROFILE,
    Author,
    author,
    expected_post_counts,
    follow,
    held_post_counts,
    held_records,
    like,
    post,
    profile,
    quote,
    repo_row,
    written_records,
)

from audit.repo_audit import audit_repo, recount_stats
from indexer.batch import BatchResult
from indexer.changes import Change, Prepared
from indexer.repos import checkout as checkout_module
from indexer.repos import staged_repo
from indexer.repos.checkout import (
    Checkout,
    CheckoutBusyError,
    CheckoutResult,
    StaleCheckoutError,
)
from indexer.repos.import_rows import Addresses, prepare_import
from indexer.row_writes import apply_changes
from protocol.data.cid import cid_for
from protocol.errors import DesynchronizedError
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent
from protocol.repo.whole_repo import RepoRecord
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.records.stats import StatsChange
from storage.repos import repo_rows, resync_buffer

Apply = Callable[..., BatchResult]
Fetch = Callable[..., CheckoutResult]


@pytest.fixture
def fetch(conn: Conn, interner: Interner) -> Fetch:
    """Import an author's whole repo as it stands now."""

    def run(someone: Author, chunk: int = 50) -> CheckoutResult:
        records = someone.repo_records()
        with Checkout(conn, interner, someone.did, someone.host, now=NOW) as checkout:
            for start in range(0, len(records), chunk):
                checkout.add(records[start : start + chunk])
            checkout.drop(someone.repo_drops())
            return checkout.finish(someone.head())

    return run


def written_author(number: int = 0, posts: int = 20) -> Author:
    someone = author(number)
    writes: dict[str, Any] = {f"{PROFILE}/self": profile("Someone")}
    for index in range(posts):
        writes[f"{POST}/{CLOCK.next()}"] = post(f"post {index}")
    writes["org.example.note/first-note"] = {"$type": "org.example.note", "text": "n"}
    someone.commit(writes)
    return someone


def assert_equal(conn: Conn, authors: list[Author]) -> None:
    assert held_records(conn) == written_records(authors)
    assert held_post_counts(conn) == expected_post_counts(authors)
    conn.rollback()
    assert recount_stats(conn).ok
    for someone in authors:
        assert audit_repo(conn, someone.did).ok
        assert repo_row(conn, someone.did) == (
            "synchronized",
            someone.rev,
            someone.data,
        )


def test_fresh_repo(conn: Conn, fetch: Fetch) -> None:
    a = written_author()
    result = fetch(a)
    assert (result.records, result.changed, result.synchronized) == (22, 22, True)
    assert_equal(conn, [a])
    row = conn.execute("SELECT lease_until, tries, error, host FROM repo").fetchone()
    assert row == (None, 0, None, 1)


def test_fresh_repo_in_several_chunks(
    conn: Conn, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout_module, "_CHUNK_RECORDS", 7)
    a = written_author()
    target = a.uri(sorted(a.records)[3])
    for _ in range(30):
        a.write(LIKE, like(target))
        a.write(POST, quote(target))
    fetch(a, chunk=5)
    assert_equal(conn, [a])


def test_same_repo_again_changes_nothing(conn: Conn, fetch: Fetch) -> None:
    a = written_author()
    fetch(a)
    result = fetch(a)
    assert (result.records, result.changed) == (22, 0)
    assert_equal(conn, [a])


@pytest.mark.parametrize(
    ("limit", "most"), [("_CHUNK_RECORDS", 7), ("_CHUNK_BYTES", 500)]
)
def test_what_differs_comes_in_pieces(
    conn: Conn, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    sizes: list[int] = []

    def count(
        conn: Conn, interner: Interner, changes: list[Change], now: datetime
    ) -> StatsChange:
        sizes.append(len(changes))
        return apply_changes(conn, interner, changes, now)

    a = written_author(posts=40)
    fetch(a)
    a.commit({path: post(f"again {path}") for path in a.records if POST in path})
    monkeypatch.setattr(staged_repo, limit, most)
    monkeypatch.setattr(checkout_module, "apply_changes", count)
    assert fetch(a).changed == 40
    assert_equal(conn, [a])
    assert sum(sizes) == 40
    assert len(sizes) > 5
    assert max(sizes) <= 7


@pytest.mark.parametrize("percent", [1, 10, 50, 99, 100])
def test_vanished_records_are_deleted(conn: Conn, fetch: Fetch, percent: int) -> None:
    a, b = written_author(posts=100), written_author(1, posts=3)
    first = a.uri(sorted(a.records)[3])
    for _ in range(5):
        b.write(LIKE, like(first))
        a.write(LIKE, like(first))
    fetch(a)
    fetch(b)
    paths = sorted(a.records)
    gone = paths[:: max(1, 100 // percent)] if percent < 100 else paths
    if percent == 99:
        gone = paths[1:]
    a.commit(dict.fromkeys(gone))
    result = fetch(a)
    assert result.changed == len(gone)
    assert_equal(conn, [a, b])


def test_changed_and_new_records(conn: Conn, fetch: Fetch) -> None:
    a = written_author()
    fetch(a)
    paths = sorted(path for path in a.records if path.startswith(POST))
    a.commit({paths[0]: post("edited"), paths[1]: None})
    a.commit({paths[1]: quote(a.uri(paths[0])), f"{PROFILE}/self": profile("New")})
    a.write(LIKE, like(a.uri(paths[2])))
    result = fetch(a)
    assert result.changed == 4
    assert_equal(conn, [a])
    assert conn.execute("SELECT display_name FROM profile").fetchall() == [("New",)]


def test_older_copy_is_refused(
    conn: Conn, interner: Interner, apply: Apply, fetch: Fetch
) -> None:
    a = written_author()
    records, head = a.repo_records(), a.head()
    a.write(POST, post("newer"))
    fetch(a)
    before = held_records(conn)
    conn.rollback()
    with Checkout(conn, interner, a.did, 1, now=NOW) as checkout:
        checkout.add(records)
        with pytest.raises(DesynchronizedError):
            checkout.finish(head)
    assert held_records(conn) == before
    row = conn.execute("SELECT rev, state FROM repo").fetchone()
    assert row == (a.rev, "resyncing")


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
    assert_equal(conn, [a])
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
    assert_equal(conn, [a])


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
    assert_equal(conn, [a])


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
    assert_equal(conn, [a])


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
            # A live batch of other accounts and of this one is not held up.
            conn.execute("SET lock_timeout = '2s'")
            conn.commit()
            target = a.uri(sorted(a.records)[3])
            apply(b.write(LIKE, like(target))[1], a.write(POST, post("x"))[1])
        # Left without finish: nothing of it stays.
        assert held_records(conn) == written_records([b])


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(
    "broken",
    ["delete_dropped_of", "lock_repos", "load_commits", "save_repos", "rows"],
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
    assert_equal(conn, [a])


def test_one_import_of_a_repo_at_a_time(
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
    assert_equal(conn, [a, b])


def test_deleted_account_is_not_brought_back(
    conn: Conn, interner: Interner, apply: Apply, fetch: Fetch
) -> None:
    a = written_author()
    fetch(a)
    apply(AccountEvent(a.did, False, "deleted", 9, 1))  # type: ignore[arg-type]
    with pytest.raises(StaleCheckoutError):
        fetch(a)


def test_what_cannot_be_kept_stays_in_the_tree(
    conn: Conn, interner: Interner, fetch: Fetch
) -> None:
    a = written_author(posts=3)
    big = b"\x45" + b"x" * 2_000_000
    a.records["bad collection/x"] = b"\xa0"
    a.records[f"{POST}/bad*key"] = b"\xa0"
    a.records[f"{POST}/3lbig222222aa"] = big
    a.dropped[f"{POST}/3lgone22222aa"] = cid_for(b"never sent")
    a.data = a.root()
    a.commit({})
    result = fetch(a)
    assert result.dropped == 4
    good = {
        key: raw
        for key, raw in written_records([a]).items()
        if len(raw) < 1_000 and raw != b"\xa0"
    }
    assert held_records(conn) == good
    conn.rollback()
    assert audit_repo(conn, a.did).ok
    reasons = dict(conn.execute("SELECT reason, n FROM drop_count").fetchall())
    assert reasons == {
        DropReason.BAD_PATH: 2,
        DropReason.RECORD_TOO_LARGE: 2,
    }
    conn.rollback()
    for path in ("bad collection/x", f"{POST}/bad*key", f"{POST}/3lbig222222aa"):
        del a.records[path]
    a.dropped.clear()
    a.commit({})
    fetch(a)
    assert_equal(conn, [a])


def test_counts_put_aside_in_a_long_import(
    conn: Conn, interner: Interner, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkout_module.StatsPile
    monkeypatch.setattr(checkout_module, "StatsPile", lambda conn: real(conn, most=3))
    monkeypatch.setattr(checkout_module, "_CHUNK_RECORDS", 5)
    a, b = written_author(posts=10), author(1)
    for path in sorted(a.records):
        if path.startswith(POST):
            b.write(LIKE, like(a.uri(path)))
            b.write(POST, quote(a.uri(path)))
    b.write("app.bsky.graph.follow", follow(a.did))
    b.write(LIKE, like(f"at://{a.did}/app.bsky.feed.generator/feed"))
    fetch(a)
    fetch(b, chunk=4)
    assert_equal(conn, [a, b])
    rows = conn.execute("SELECT likes FROM subject_stats").fetchall()
    assert rows == [(1,)]


def test_likes_of_what_is_no_post_are_put_aside_too(
    conn: Conn, interner: Interner, monkeypatch: pytest.MonkeyPatch
) -> None:
    pile = checkout_module.StatsPile(conn, most=3)
    for number in range(9):
        change = StatsChange()
        change.add_subject(number, 4, 1, 1)
        pile.add(change)
        assert len(pile._change.subjects) <= 4
    pile.apply()
    assert conn.execute("SELECT count(*) FROM subject_stats").fetchone() == (9,)


def test_record_type_of_the_reader_fits(conn: Conn, interner: Interner) -> None:
    """The import takes what `whole_repo` gives; nothing for an empty repo."""
    a = author(0)
    a.commit({})
    with Checkout(conn, interner, a.did, 0, now=NOW) as checkout:
        checkout.add(list[RepoRecord]())
        assert checkout.finish(a.head()).records == 0
    assert_equal(conn, [a])


def test_too_many_commits_meanwhile_mean_another_fetch(
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
    # The checkout is opened late: the state is `resyncing` again, and what was told
    # of the host's rev still counts.
    with Checkout(conn, interner, someone.did, someone.host, now=NOW) as checkout:
        checkout.add(records)
        assert not checkout.finish(head).synchronized
    assert repo_state(conn)[0] == "desynchronized"
    fetch(someone)
    assert repo_state(conn)[0] == "synchronized"
    assert_equal(conn, [someone])


def test_a_host_that_never_serves_what_it_told_of_is_asked_less_and_less(
    conn: Conn, fetch: Fetch
) -> None:
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


def test_records_that_come_all_at_once_are_taken_in_pieces(
    conn: Conn, interner: Interner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout_module, "_CHUNK_BYTES", 20_000)
    sizes: list[int] = []

    def watched(*args: Any) -> Iterator[Prepared]:
        for prepared in prepare_import(*args):
            sizes.append(len(prepared.records))
            yield prepared

    monkeypatch.setattr(checkout_module, "prepare_import", watched)
    someone = author(0)
    same = post("x" * 2_000)
    someone.commit({f"{POST}/{CLOCK.next()}": same for _ in range(100)})
    with Checkout(conn, interner, someone.did, someone.host, now=NOW) as checkout:
        checkout.add(someone.repo_records())
        checkout.finish(someone.head())
    assert sum(sizes) == 100
    assert max(sizes) < 20
    assert_equal(conn, [someone])


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "again"])
@pytest.mark.parametrize("together", [1, 7, 60])
def test_of_large_records_two_megabytes_are_made_ready_at_once(
    conn: Conn,
    interner: Interner,
    fetch: Fetch,
    monkeypatch: pytest.MonkeyPatch,
    together: int,
    again: bool,
) -> None:
    handed: list[int] = []
    sort = Addresses.sort

    def watched(
        self: Addresses, actor: int, records: list[RepoRecord], dropped: Any
    ) -> Any:
        handed.append(sum(len(record.value) for record in records))
        return sort(self, actor, records, dropped)

    someone = author(0)
    someone.commit({f"{POST}/{CLOCK.next()}": post("first")})
    if again:
        fetch(someone)
    monkeypatch.setattr(Addresses, "sort", watched)
    large = post("x" * 200_000)
    someone.commit({f"{POST}/{CLOCK.next()}": large for _ in range(60)})
    records = someone.repo_records()
    with Checkout(conn, interner, someone.did, someone.host, now=NOW) as checkout:
        for start in range(0, len(records), together):
            checkout.add(records[start : start + together])
        checkout.finish(someone.head())
    assert sum(handed) == sum(len(record.value) for record in records)
    # What comes next may be as much again as what waits.
    assert max(handed) <= 2 * 2_000_000
    assert_equal(conn, [someone])
