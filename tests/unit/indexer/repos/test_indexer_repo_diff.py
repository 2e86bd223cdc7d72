"""Partial fetches merged with the stored repo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from indexer_steps import assert_indexed, blocks_of, car_of, diff_of, import_repo
from indexer_world import (
    CLOCK,
    KEY,
    LIKE,
    NOW,
    NOW_US,
    POST,
    Author,
    author,
    held_records,
    like,
    post,
)

from indexer.apply import apply_batch
from indexer.repos.checkout import StaleCheckoutError
from indexer.repos.repo_diff import DiffMismatchError, apply_diff
from protocol.data import cbor
from protocol.data.cid import cid_for, raw_cid_for
from protocol.errors import InvalidSignatureError, LimitExceededError
from protocol.identity.keys import PrivateKey
from protocol.limits import MAX_REV_AHEAD_US
from protocol.repo.repo_diff import RepoDiff, read_diff
from protocol.syntax import tid_time_us
from storage.postgres.pool import Conn
from storage.records.interning import Interner

Blocks = dict[bytes, bytes]


@pytest.fixture
def wipe(conn: Conn) -> Callable[[], None]:
    def run() -> None:
        conn.rollback()
        derived = ("listed_record", "link", "post", "post_stats", "actor_stats")
        for table in ("repo", "record", *derived):
            conn.execute(f"DELETE FROM {table}")
        conn.commit()

    return run


def hold(conn: Conn, interner: Interner, someone: Author) -> None:
    """Store the author's current repo and claim it for a fetch."""
    import_repo(conn, interner, someone)
    claim(conn)


def claim(conn: Conn) -> None:
    conn.execute("UPDATE repo SET state = 'resyncing', lease_until = now() + '1 hour'")
    conn.commit()


def difference(someone: Author, before: Blocks, *, left_out: bytes = b"") -> RepoDiff:
    """Return the new blocks, as a host sends them."""
    new = {c: b for c, b in blocks_of(someone).items() if c not in before}
    new.pop(left_out, None)
    return diff_of(someone, new)


def written(posts: int = 60) -> Author:
    someone = author(0)
    writes = {f"{POST}/{CLOCK.next()}": post(f"post {n}") for n in range(posts)}
    someone.commit({**writes, "org.example.note/a-note": {"$type": "org.example.note"}})
    return someone


def state_of(conn: Conn) -> tuple[Any, ...]:
    row = conn.execute("SELECT state, rev, data, lease_until FROM repo").fetchone()
    assert row is not None
    conn.rollback()
    return row


def assert_stands(conn: Conn, someone: Author) -> None:
    assert_indexed(conn, [someone])
    assert state_of(conn)[3] is None


def test_record_with_cid_of_a_blob_is_dropped(conn: Conn, interner: Interner) -> None:
    someone = written(3)
    hold(conn, interner, someone)
    before, since = blocks_of(someone), someone.rev
    raw = cbor.encode(post("under a blob's CID"))
    odd = raw_cid_for(raw)
    someone.commit({}, {f"{POST}/{CLOCK.next()}": odd})
    new = {c: b for c, b in blocks_of(someone).items() if c not in before}
    diff = diff_of(someone, {odd: raw, **new})
    apply_diff(conn, interner, someone.did, 1, since, diff, NOW)  # type: ignore[arg-type]
    assert_stands(conn, someone)


changes = st.lists(
    st.tuples(st.sampled_from(("create", "update", "delete", "like")), st.integers(0)),
    min_size=1,
    max_size=40,
)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(plan=changes, size=st.sampled_from((0, 1, 7, 80)))
def test_any_changes(
    conn: Conn,
    interner: Interner,
    wipe: Callable[[], None],
    plan: list[tuple[str, int]],
    size: int,
) -> None:
    wipe()
    someone = written(size)
    hold(conn, interner, someone)
    before, since = blocks_of(someone), someone.rev
    for kind, number in plan:
        paths = sorted(someone.records)
        if kind == "like" or not paths:
            target = someone.uri(f"{POST}/{CLOCK.next()}")
            someone.commit({f"{LIKE}/{CLOCK.next()}": like(target)})
        elif kind == "create":
            someone.commit({f"{POST}/{CLOCK.next()}": post(f"new {number}")})
        else:
            path = paths[number % len(paths)]
            value = post(f"again {number}") if path.startswith(POST) else None
            someone.commit({path: value if kind == "update" else None})
    assert since is not None
    diff = difference(someone, before)
    apply_diff(conn, interner, someone.did, 1, since, diff, NOW)
    assert_stands(conn, someone)


def test_buffered_commits_follow(conn: Conn, interner: Interner) -> None:
    someone = written()
    hold(conn, interner, someone)
    before, since = blocks_of(someone), someone.rev
    missed = someone.commit({f"{POST}/{CLOCK.next()}": post("missed")})
    diff = difference(someone, before)
    later = someone.commit({f"{POST}/{CLOCK.next()}": post("later")})
    # One of the two that waited is part of the difference already.
    assert apply_batch(conn, interner, [missed, later], {}, NOW).buffered == 2
    assert since is not None
    apply_diff(conn, interner, someone.did, 1, since, diff, NOW)
    assert_stands(conn, someone)
    assert conn.execute("SELECT count(*) FROM resync_buffer").fetchone() == (0,)


def test_empty_difference_settles_the_repo(conn: Conn, interner: Interner) -> None:
    someone = written()
    hold(conn, interner, someone)
    diff = difference(someone, blocks_of(someone))
    assert someone.rev is not None
    assert apply_diff(conn, interner, someone.did, 1, someone.rev, diff, NOW) == 0
    assert_stands(conn, someone)


def test_mismatching_difference_changes_nothing(conn: Conn, interner: Interner) -> None:
    someone = written()
    hold(conn, interner, someone)
    before, since, held = blocks_of(someone), someone.rev, held_records(conn)
    conn.rollback()
    assert since is not None
    path = f"{POST}/{CLOCK.next()}"
    someone.commit({path: post("new")})
    new_record = cid_for(someone.records[path])
    # A new record that was not sent; and rows that are not those of the old tree.
    lacking = difference(someone, before, left_out=new_record)
    with pytest.raises(DiffMismatchError):
        apply_diff(conn, interner, someone.did, 1, since, lacking, NOW)
    diff = difference(someone, before)
    conn.execute("DELETE FROM record WHERE rkey = (SELECT max(rkey) FROM record)")
    conn.commit()
    with pytest.raises(DiffMismatchError):
        apply_diff(conn, interner, someone.did, 1, since, diff, NOW)
    assert len(held_records(conn)) == len(held) - 1
    assert state_of(conn)[:2] == ("resyncing", since)


def test_difference_needs_the_stored_rev(conn: Conn, interner: Interner) -> None:
    someone = written()
    hold(conn, interner, someone)
    before, since = blocks_of(someone), someone.rev
    someone.commit({f"{POST}/{CLOCK.next()}": post("new")})
    diff = difference(someone, before)
    assert since is not None
    with pytest.raises(StaleCheckoutError):
        apply_diff(conn, interner, someone.did, 1, CLOCK.next(), diff, NOW)
    conn.execute("UPDATE repo SET state = 'desynchronized'")
    conn.commit()
    with pytest.raises(StaleCheckoutError):
        apply_diff(conn, interner, someone.did, 1, since, diff, NOW)


def test_difference_needs_signature_of_account() -> None:
    someone = written(3)
    car = car_of(someone, {})
    other = PrivateKey.generate("k256").public
    with pytest.raises(InvalidSignatureError):
        read_diff(car, someone.did, other, NOW_US)  # type: ignore[arg-type]


def test_difference_of_the_future_is_refused() -> None:
    someone = written(3)
    car = car_of(someone, blocks_of(someone))
    now = tid_time_us(someone.rev)  # type: ignore[arg-type]
    assert read_diff(car, someone.did, KEY.public, now).head.rev == someone.rev  # type: ignore[arg-type]
    with pytest.raises(LimitExceededError):
        read_diff(car, someone.did, KEY.public, now - MAX_REV_AHEAD_US - 1)  # type: ignore[arg-type]


def test_block_under_many_keys_needs_whole_fetch(
    conn: Conn, interner: Interner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.repos.repo_diff.MAX_CHANGED_BYTES", 100_000)
    someone = written(3)
    hold(conn, interner, someone)
    before, since = blocks_of(someone), someone.rev
    same = post("x" * 3_000)
    someone.commit({f"{POST}/{CLOCK.next()}": same for _ in range(50)})
    with pytest.raises(DiffMismatchError):
        apply_diff(
            conn, interner, someone.did, 1, since, difference(someone, before), NOW
        )
