"""Records that cannot be kept: dropped for the same reason in every way.

They stay part of the tree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from indexer_steps import blocks_of, claim, diff_of, fetched_repo, import_repo
from indexer_world import (
    CLOCK,
    LIKE,
    NOW,
    POST,
    Author,
    author,
    held_records,
    like,
    post,
)

from audit.repo_audit import rebuild_root, recount_stats
from indexer.apply import apply_batch
from indexer.repos import checkout as checkout_module
from indexer.repos.checkout import Checkout
from indexer.repos.repo_batch import import_fresh
from indexer.repos.repo_diff import apply_diff
from protocol.data import cbor
from protocol.data.cid import cid_for
from protocol.errors import LimitExceededError
from protocol.events.drops import DropReason
from protocol.events.event import DroppedOp
from storage.collections import FEED_LIKE
from storage.postgres.pool import Conn
from storage.records.edge_batch import SHAPE_OF
from storage.records.interning import Interner

Way = Callable[[Conn, Interner, Author], object]

UNKEPT = {
    b"\x82\x01\x02": DropReason.BAD_RECORD_TYPE,
    b"\xa1aa": DropReason.BAD_RECORD_ENCODING,
    cbor.encode(post("and more")) + b"\x00": DropReason.BAD_RECORD_ENCODING,
    # Keys in the wrong order, a number in a longer form than it needs.
    b"\xa2ab\x01aa\x01": DropReason.BAD_RECORD_ENCODING,
    b"\xa1aa\x18\x01": DropReason.BAD_RECORD_ENCODING,
    b"\xa1aa" * 40 + b"\x01": DropReason.RECORD_TOO_DEEP,
    b"\xa1aaZ\x00\x10\x00\x00" + bytes(2**20): DropReason.RECORD_TOO_LARGE,
    # Only the size of an edge.
    b"\xff" * SHAPE_OF[FEED_LIKE].size: DropReason.BAD_RECORD_ENCODING,
}


def fetch_small(conn: Conn, interner: Interner, someone: Author) -> None:
    claim(conn, interner, someone)
    if import_fresh(conn, interner, [fetched_repo(someone)], NOW):
        import_repo(conn, interner, someone)


def fetch_changes(conn: Conn, interner: Interner, someone: Author) -> None:
    held = conn.execute("SELECT rev FROM repo").fetchone()
    conn.rollback()
    if held is None:
        import_repo(conn, interner, someone)
        return
    claim(conn, interner, someone)
    diff = diff_of(someone, blocks_of(someone))
    apply_diff(conn, interner, someone.did, 1, held[0], diff, NOW)


def dropped_records(conn: Conn) -> dict[bytes, tuple[bytes, str]]:
    rows = conn.execute("SELECT path, cid, reason FROM dropped_record").fetchall()
    conn.rollback()
    return {bytes(path): (bytes(cid), reason) for path, cid, reason in rows}


def assert_stands(conn: Conn, someone: Author, unkept: dict[str, bytes]) -> None:
    good = {k: raw for k, raw in someone.records.items() if k not in unkept}
    assert held_records(conn) == {(someone.did, k): raw for k, raw in good.items()}
    assert dropped_records(conn) == {
        path.encode(): (cid_for(raw), UNKEPT[raw].value) for path, raw in unkept.items()
    }
    assert rebuild_root(conn, someone.did) == someone.data
    conn.rollback()
    assert recount_stats(conn).ok
    conn.rollback()


@pytest.mark.parametrize("way", [fetch_small, import_repo, fetch_changes])
def test_dropped_records_return(conn: Conn, interner: Interner, way: Way) -> None:
    someone = author(0)
    liked = f"{POST}/{CLOCK.next()}"
    someone.commit({liked: post("liked")})
    nsids = [POST, LIKE, "org.example.note"]
    unkept = {f"{nsid}/{CLOCK.next()}": raw for nsid in nsids for raw in UNKEPT if raw}
    good: dict[str, Any] = {
        path: like(someone.uri(liked)) if path.startswith(LIKE) else post("good")
        for path in unkept
    }
    someone.commit(dict(unkept))
    way(conn, interner, someone)
    assert_stands(conn, someone, unkept)
    someone.commit(good)
    way(conn, interner, someone)
    assert_stands(conn, someone, {})
    someone.commit(dict(unkept))
    way(conn, interner, someone)
    assert_stands(conn, someone, unkept)
    way(conn, interner, someone)
    assert_stands(conn, someone, unkept)


def test_live_commits_follow_dropped_records(conn: Conn, interner: Interner) -> None:
    someone = author(0)
    path, other = f"{POST}/{CLOCK.next()}", f"{POST}/{CLOCK.next()}"
    someone.commit({path: b"\x82\x01\x02", other: b"\xa1aa"})
    import_repo(conn, interner, someone)
    apply_batch(conn, interner, [someone.commit({path: post("mended")})], {}, NOW)
    assert_stands(conn, someone, {other: b"\xa1aa"})
    apply_batch(conn, interner, [someone.commit({other: None})], {}, NOW)
    assert_stands(conn, someone, {})


@pytest.mark.parametrize("held", [False, True], ids=["fresh", "held"])
def test_repo_of_dropped_records_is_refused(
    conn: Conn, interner: Interner, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    monkeypatch.setattr(checkout_module, "MAX_DROPPED_RECORDS", 10)
    someone = author(0)
    if held:
        someone.commit({f"{POST}/{CLOCK.next()}": post("held")})
        import_repo(conn, interner, someone)
    stood = held_records(conn)
    conn.rollback()
    someone.commit({f"{POST}/{CLOCK.next()}": b"\x82\x01\x02" for _ in range(11)})
    with pytest.raises(LimitExceededError):
        import_repo(conn, interner, someone)
    drop = DroppedOp("nopath", cid_for(b""), DropReason.BAD_PATH)
    checkout = Checkout(conn, interner, someone.did, 1, now=NOW)
    with checkout, pytest.raises(LimitExceededError):
        checkout.drop([drop] * 11)
    assert held_records(conn) == stood


def test_dropped_record_recreated_is_kept(conn: Conn, interner: Interner) -> None:
    someone = author(0)
    path = f"{POST}/{CLOCK.next()}"
    dropped = someone.commit({}, {path: cid_for(b"\x80")})
    apply_batch(conn, interner, [dropped], {1: 1}, NOW)
    events = [someone.commit({path: None}), someone.commit({path: post("anew")})]
    apply_batch(conn, interner, events, {1: 3}, NOW)
    assert rebuild_root(conn, someone.did) == someone.data
    assert conn.execute("SELECT count(*) FROM dropped_record").fetchone() == (0,)
