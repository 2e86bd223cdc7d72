"""Rows of replies by their ancestors, in any order of the posts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from index_dump import Documents
from indexer_world import NOW, author, reply
from indexer_world import post as root_post

from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from protocol.events.event import AccountEvent
from search.drain import drain_outbox
from storage.postgres.pool import Conn
from storage.records.distant_replies import count_wrong_distant_replies
from storage.records.interning import Interner

RKEYS = [f"3kabcdefghi{digit}a" for digit in "234567"]


def uri(number: int) -> str:
    return f"at://{author(number).did}/app.bsky.feed.post/{RKEYS[number]}"


class Thread:
    """Six accounts, each of which replies to the one before."""

    def __init__(self, conn: Conn, interner: Interner) -> None:
        self.conn, self.interner = conn, interner
        self.authors = [author(number) for number in range(6)]
        self.seq = 0

    def write(self, number: int, record: Any = ...) -> None:
        if record is ...:
            above = uri(max(number - 1, 0))
            record = reply(uri(0), above) if number else root_post()
        self.commit(number, {f"app.bsky.feed.post/{RKEYS[number]}": record})

    def commit(self, number: int, writes: Any) -> None:
        self.apply(self.authors[number].commit(writes))

    def apply(self, *events: Any) -> None:
        self.seq += 1
        apply_batch(self.conn, self.interner, events, {1: self.seq}, NOW)

    def rows(self) -> set[tuple[int, int, int]]:
        """Return (replying account, height, recipient), after the drain."""
        while drain_outbox(self.conn, Documents(), TEXTS, 3):  # type: ignore[arg-type]
            pass
        dids = {a.did: number for number, a in enumerate(self.authors)}
        found = self.conn.execute(
            "SELECT a.did, height, r.did FROM distant_reply d"
            " JOIN actor a ON a.id = d.actor JOIN actor r ON r.id = d.recipient"
        ).fetchall()
        for did, number in dids.items():
            actor = self.interner.actors([did])[did]
            assert count_wrong_distant_replies(self.conn, actor) == 0, number
        self.conn.rollback()
        return {(dids[by], height, dids[to]) for by, height, to in found}


@pytest.fixture
def thread(conn: Conn, interner: Interner) -> Thread:
    return Thread(conn, interner)


WHOLE = {
    (number, height, number - height)
    for number in range(6)
    for height in (2, 3, 4)
    if height <= number
}


@pytest.mark.parametrize("order", [*itertools.permutations(range(6))][::71])
def test_rows_do_not_depend_on_the_order_of_posts(
    thread: Thread, order: tuple[int, ...]
) -> None:
    for number in order:
        thread.write(number)
    assert thread.rows() == WHOLE


def test_deleted_post_ends_the_rows_through_it_until_it_is_back(
    thread: Thread,
) -> None:
    for number in range(6):
        thread.write(number)
    assert thread.rows() == WHOLE
    thread.write(2, None)
    left = {row for row in WHOLE if not row[2] < 2 < row[0] and row[0] != 2}
    assert thread.rows() == left
    thread.write(2)
    assert thread.rows() == WHOLE


def test_edited_reply_moves_the_rows_below_it(thread: Thread) -> None:
    for number in range(4):
        thread.write(number)
    thread.write(2, root_post())
    assert thread.rows() == set()
    thread.write(2, reply(uri(0), uri(0)))
    assert thread.rows() == {(3, 2, 0)}


def test_own_ancestors_are_left_out(thread: Thread) -> None:
    thread.write(0)
    thread.write(1)
    path = "app.bsky.feed.post/3kabcdefghiaa"
    thread.commit(0, {path: reply(uri(0), uri(1))})
    assert thread.rows() == set()


def test_deleted_account_leaves_no_rows(thread: Thread) -> None:
    from indexer.account import purge_deleted

    for number in range(6):
        thread.write(number)
    assert thread.rows() == WHOLE
    did = thread.authors[3].did
    thread.apply(AccountEvent(did, False, "deleted", host=1))
    purge_deleted(thread.conn, thread.interner, NOW, limit=1)
    left = {row for row in WHOLE if not row[2] < 3 < row[0] and row[0] != 3}
    assert thread.rows() == left


def test_ring_of_replies_ends(thread: Thread) -> None:
    for number in range(3):
        thread.write(number, reply(uri(0), uri((number + 1) % 3)))
    assert thread.rows() == {(0, 2, 2), (1, 2, 0), (2, 2, 1)} | {
        (0, 4, 1),
        (1, 4, 2),
        (2, 4, 0),
    }


def test_removed_verification_is_noted_until_it_is_back(thread: Thread) -> None:
    path = "app.bsky.graph.verification/3kabcdefghiaa"
    record = {
        "$type": "app.bsky.graph.verification",
        "subject": thread.authors[1].did,
        "handle": "b.test",
        "displayName": "B",
        "createdAt": "2026-02-01T10:00:00.000Z",
    }

    def noted() -> list[Any]:
        rows = thread.conn.execute(
            "SELECT r.did, removed_at FROM removed_verification v"
            " JOIN actor r ON r.id = v.recipient"
        ).fetchall()
        thread.conn.rollback()
        return rows

    thread.commit(0, {path: record})
    assert noted() == []
    thread.commit(0, {path: None})
    assert noted() == [(thread.authors[1].did, NOW)]
    thread.commit(0, {path: record})
    assert noted() == []
