"""Rows of notifications that differ from the posts: found once the drain is done."""

from __future__ import annotations

from typing import Any

import pytest
from index_dump import Documents
from indexer_steps import import_repo
from indexer_world import NOW, Author, author, reply
from indexer_world import post as root_post

from audit.repair import clear_repo
from audit.row_audit import audit_whole
from indexer.collections.texts import TEXTS
from search.drain import drain_outbox
from storage.postgres.pool import Conn
from storage.records import distant_replies
from storage.records.interning import Interner

RKEYS = [f"3kabcdefghi{digit}a" for digit in "2345"]
VERIFICATION = "app.bsky.graph.verification"


def path(number: int) -> str:
    return f"app.bsky.feed.post/{RKEYS[number]}"


def drain(conn: Conn) -> None:
    while drain_outbox(conn, Documents(), TEXTS, 50):  # type: ignore[arg-type]
        pass


def distant(conn: Conn) -> list[tuple[object, ...]]:
    rows = conn.execute("SELECT * FROM distant_reply ORDER BY 1, 2, 3").fetchall()
    conn.rollback()
    return rows


def found(conn: Conn, interner: Interner, a: Author) -> str | None:
    return audit_whole(conn, interner, a.did).fault


@pytest.fixture
def thread(conn: Conn, apply: Any) -> list[Author]:
    """Create four accounts, each of which replies to the one before."""
    authors = [author(number) for number in range(4)]
    for number, someone in enumerate(authors):
        above = authors[number - 1].uri(path(number - 1)) if number else ""
        record = reply(authors[0].uri(path(0)), above) if number else root_post()
        apply(someone.commit({path(number): record}))
    drain(conn)
    return authors


CORRUPTIONS = {
    "missing": "DELETE FROM distant_reply WHERE actor = %s",
    "other recipient": "UPDATE distant_reply SET recipient = 99 WHERE actor = %s",
    "later": "UPDATE distant_reply SET sort_at = now() WHERE actor = %s",
    "surplus": "INSERT INTO distant_reply (actor, rkey, height, recipient,"
    " subject_rkey, sort_at) SELECT actor, rkey, 4, recipient, subject_rkey, sort_at"
    " FROM distant_reply WHERE actor = %s LIMIT 1",
    "without a reply": "UPDATE distant_reply SET rkey = rkey + 1 WHERE actor = %s",
}


@pytest.mark.parametrize("statement", CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_wrong_distant_reply_is_found_and_repaired(
    conn: Conn, interner: Interner, thread: list[Author], statement: str
) -> None:
    last = thread[-1]
    before = distant(conn)
    assert [found(conn, interner, a) for a in thread] == [None] * 4
    with conn.transaction():
        actor = interner.actors([last.did])[last.did]
        assert conn.execute(statement.encode(), (actor,)).rowcount
    assert "distant_reply" in (found(conn, interner, last) or "")
    assert [found(conn, interner, a) for a in thread[:-1]] == [None] * 3
    clear_repo(conn, interner, last.did, NOW, "wrong")
    import_repo(conn, interner, last)
    drain(conn)
    assert found(conn, interner, last) is None
    assert distant(conn) == before


@pytest.mark.parametrize(
    ("changed", "edited"),
    [(1, False), (2, False), (3, False), (2, True), (3, True)],
)
def test_replies_below_a_waiting_post_are_not_compared(
    conn: Conn,
    interner: Interner,
    thread: list[Author],
    apply: Any,
    changed: int,
    edited: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last, top = thread[-1], thread[0].uri(path(0))
    record = reply(top, top) if edited else None
    apply(thread[changed].commit({path(changed): record}))
    assert [found(conn, interner, a) for a in thread] == [None] * 4
    # The rows are those of the posts before.
    with conn.transaction(force_rollback=True):
        conn.execute("DELETE FROM search_outbox")
        actor = interner.actors([last.did])[last.did]
        assert distant_replies.count_wrong_distant_replies(conn, actor)
        monkeypatch.setattr(distant_replies, "MAX_WAITING", -1)
        assert not distant_replies.count_wrong_distant_replies(conn, actor)
        monkeypatch.undo()
    drain(conn)
    assert [found(conn, interner, a) for a in thread] == [None] * 4


def test_waiting_post_elsewhere_hides_no_fault(
    conn: Conn, interner: Interner, thread: list[Author], apply: Any
) -> None:
    last = thread[-1]
    apply(thread[1].commit({"app.bsky.feed.post/3kzzzzzzzzz2a": root_post()}))
    with conn.transaction():
        conn.execute("DELETE FROM distant_reply")
    assert "distant_reply" in (found(conn, interner, last) or "")


def test_noted_end_of_a_verification_that_is_there_is_found(
    conn: Conn, interner: Interner, thread: list[Author], apply: Any
) -> None:
    a, b = thread[:2]
    key = f"{VERIFICATION}/3kabcdefghiaa"
    record = {
        "$type": VERIFICATION,
        "subject": b.did,
        "handle": "b.test",
        "displayName": "B",
        "createdAt": "2026-02-01T10:00:00.000Z",
    }
    apply(a.commit({key: record}))
    apply(a.commit({key: None}))
    assert found(conn, interner, a) is None
    noted = conn.execute("SELECT * FROM removed_verification").fetchall()
    conn.rollback()
    apply(a.commit({key: record}))
    assert found(conn, interner, a) is None
    with conn.transaction():
        marks = ", ".join(["%s"] * len(noted[0]))
        conn.execute(f"INSERT INTO removed_verification VALUES ({marks})", noted[0])
    assert "removed_verification" in (found(conn, interner, a) or "")
    clear_repo(conn, interner, a.did, NOW, "wrong")
    import_repo(conn, interner, a)
    assert found(conn, interner, a) is None
