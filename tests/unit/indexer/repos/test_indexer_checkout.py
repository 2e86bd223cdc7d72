"""Imports of whole repos: fresh, again, with deletes, and with events meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from indexer_steps import Apply, Fetch, assert_indexed, written_author
from indexer_world import (
    CLOCK,
    LIKE,
    NOW,
    POST,
    PROFILE,
    author,
    follow,
    held_records,
    like,
    post,
    profile,
    quote,
    written_records,
)

from audit.repo_audit import audit_repo
from indexer.changes import Change, Prepared
from indexer.repos import checkout as checkout_module
from indexer.repos import staged_repo
from indexer.repos.checkout import Checkout
from indexer.repos.import_rows import Addresses, prepare_import
from indexer.row_writes import apply_changes
from protocol.data.cid import cid_for
from protocol.errors import DesynchronizedError
from protocol.events.drops import DropReason
from protocol.repo.whole_repo import RepoRecord
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.records.stats import StatsChange


def test_fresh_repo(conn: Conn, fetch: Fetch) -> None:
    a = written_author()
    result = fetch(a)
    assert (result.records, result.changed, result.synchronized) == (22, 22, True)
    assert_indexed(conn, [a])
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
    assert_indexed(conn, [a])


def test_same_repo_changes_nothing(conn: Conn, fetch: Fetch) -> None:
    a = written_author()
    fetch(a)
    result = fetch(a)
    assert (result.records, result.changed) == (22, 0)
    assert_indexed(conn, [a])


@pytest.mark.parametrize(
    ("limit", "most"), [("_CHUNK_RECORDS", 7), ("_CHUNK_BYTES", 500)]
)
def test_differences_come_in_pieces(
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
    assert_indexed(conn, [a])
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
    assert_indexed(conn, [a, b])


def test_changed_and_new_records(conn: Conn, fetch: Fetch) -> None:
    a = written_author()
    fetch(a)
    paths = sorted(path for path in a.records if path.startswith(POST))
    a.commit({paths[0]: post("edited"), paths[1]: None})
    a.commit({paths[1]: quote(a.uri(paths[0])), f"{PROFILE}/self": profile("New")})
    a.write(LIKE, like(a.uri(paths[2])))
    result = fetch(a)
    assert result.changed == 4
    assert_indexed(conn, [a])
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


def test_dropped_records_in_tree(conn: Conn, interner: Interner, fetch: Fetch) -> None:
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
    assert reasons == {DropReason.BAD_PATH: 2, DropReason.RECORD_TOO_LARGE: 2}
    conn.rollback()
    for path in ("bad collection/x", f"{POST}/bad*key", f"{POST}/3lbig222222aa"):
        del a.records[path]
    a.dropped.clear()
    a.commit({})
    fetch(a)
    assert_indexed(conn, [a])


def test_long_import_piles_counts(
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
    assert_indexed(conn, [a, b])
    rows = conn.execute("SELECT likes FROM subject_stats").fetchall()
    assert rows == [(1,)]


def test_likes_of_feeds_are_piled_too(
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
    a = author(0)
    a.commit({})
    with Checkout(conn, interner, a.did, 0, now=NOW) as checkout:
        checkout.add(list[RepoRecord]())
        assert checkout.finish(a.head()).records == 0
    assert_indexed(conn, [a])


def test_many_records_at_once_are_split(
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
    assert_indexed(conn, [someone])


@pytest.mark.parametrize("again", [False, True], ids=["fresh", "again"])
@pytest.mark.parametrize("together", [1, 7, 60])
def test_large_records_are_prepared_by_two_megabytes(
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
    # The next piece may be as large as the waiting one.
    assert max(handed) <= 2 * 2_000_000
    assert_indexed(conn, [someone])
