"""The cursor, never ahead of the rows, at any interruption of a batch.

A batch runs on a connection that dies at its first statement, then at its second, and
so on. After each death the database must hold all of the batch or nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from indexer_world import (
    FOLLOW,
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
    reply,
    written_records,
)

from audit.repo_audit import audit_repo, recount_stats
from indexer import batch_parts
from indexer.apply import apply_batch
from protocol.events.event import AccountEvent, CommitEvent, Event, IdentityEvent
from storage.cursors import load_cursor, save_cursors
from storage.postgres.pool import Conn
from storage.records.interning import Interner

Apply = Callable[[Conn, Interner, Sequence[Event], dict[int, int]], None]
HOST = 1


class KilledError(Exception):
    """A simulated crash of the process."""


class MortalCursor(psycopg.Cursor[Any]):
    """A cursor that counts the statements of all and dies before the last allowed
    one."""

    granted = 0
    used = 0

    def _count(self) -> None:
        kind = type(self)
        if kind.used >= kind.granted:
            # No rollback, no goodbye: the server finds out by itself.
            self.connection.pgconn.finish()
            raise KilledError
        kind.used += 1

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return super().execute(*args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> None:
        self._count()
        super().executemany(*args, **kwargs)

    def copy(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return super().copy(*args, **kwargs)


def apply(
    conn: Conn, interner: Interner, events: Sequence[Event], cursors: dict[int, int]
) -> None:
    apply_batch(conn, interner, events, cursors, NOW)


def apply_cursor_first(
    conn: Conn, interner: Interner, events: Sequence[Event], cursors: dict[int, int]
) -> None:
    """Plant a fault: save the cursor in a transaction before the rows."""
    with conn.transaction():
        save_cursors(conn, cursors)
    apply_batch(conn, interner, events, {}, NOW)


def apply_in_halves(
    conn: Conn, interner: Interner, events: Sequence[Event], cursors: dict[int, int]
) -> None:
    """Plant a fault: save the cursor of both halves with the first."""
    middle = len(events) // 2
    apply_batch(conn, interner, events[:middle], cursors, NOW)
    apply_batch(conn, interner, events[middle:], {}, NOW)


def make_batch() -> tuple[list[Any], list[Event], list[Event]]:
    """Return (authors, the batch before, the batch to interrupt)."""
    a, b = author(0), author(1)
    path, first = a.write(POST, post("first"))
    before: list[Event] = [first, b.commit({f"{PROFILE}/self": profile("B")})]
    uri = a.uri(path)
    later: list[Event] = [
        b.write(LIKE, like(uri))[1],
        b.write(POST, reply(uri, uri))[1],
        a.commit({path: post("edited")}),
        b.write(FOLLOW, follow(a.did))[1],
        b.commit({f"{PROFILE}/self": None}, {f"{POST}/3lbig222222aa": b"\x01" * 36}),
        a.write("org.example.note", {"$type": "org.example.note", "ref": uri})[1],
        IdentityEvent(a.did, None, 9, HOST),
        AccountEvent(b.did, True, None, 9, HOST),
    ]
    return [a, b], before, later


def look(url: str) -> tuple[int | None, dict[tuple[str, str], bytes], list[Any]]:
    """Return what another process sees: cursor, records, sizes of all tables."""
    with psycopg.connect(url) as conn:
        sizes = [
            conn.execute(f"SELECT count(*) FROM {table}").fetchone()
            for table in (
                "link",
                "post",
                "profile",
                "dropped_record",
                "resync_buffer",
                "search_outbox",
                "drop_count",
            )
        ]
        states = conn.execute(
            "SELECT did, repo.state, rev, data FROM repo"
            " JOIN actor ON actor.id = actor ORDER BY did"
        ).fetchall()
        return load_cursor(conn, HOST), held_records(conn), [*sizes, *states]


def find_torn_batches(
    url: str, interner: Interner, run: Apply
) -> tuple[int, list[int]]:
    """Die at every statement; return (their number, those that tore the batch)."""
    authors, before, later = make_batch()
    with psycopg.connect(url) as conn:
        apply(conn, interner, before, {HOST: 10})
    old = look(url)
    # Names are interned in transactions of their own; that is not what is looked at.
    torn: list[int] = []
    MortalCursor.granted = 0
    while True:
        MortalCursor.used = 0
        conn = psycopg.connect(url, cursor_factory=MortalCursor)
        try:
            run(conn, interner, later, {HOST: 20})
        except KilledError:
            pass
        else:
            break
        finally:
            conn.close()
        now = look(url)
        if now != old:
            torn.append(MortalCursor.granted)
            old = now
        MortalCursor.granted += 1
    if not torn:
        cursor, records, _ = look(url)
        assert cursor == 20
        assert records == written_records(authors)
        with psycopg.connect(url) as conn:
            assert recount_stats(conn).ok
            assert all(audit_repo(conn, each.did).ok for each in authors)
    return MortalCursor.granted, torn


def test_interrupted_batch_leaves_nothing(index_db: str, interner: Interner) -> None:
    statements, torn = find_torn_batches(index_db, interner, apply)
    assert torn == []
    assert statements >= 15


@pytest.mark.parametrize("planted", [apply_cursor_first, apply_in_halves])
def test_faults_are_found(index_db: str, interner: Interner, planted: Apply) -> None:
    _, torn = find_torn_batches(index_db, interner, planted)
    assert torn != []


@contextlib.contextmanager
def visible_states(index_db: str, conn: Conn) -> Iterator[set[tuple[int, int]]]:
    """Return what another connection sees behind each statement: cursor and records."""
    seen: set[tuple[int, int]] = set()
    with psycopg.connect(index_db, autocommit=True) as outside:

        class WatchedCursor(psycopg.Cursor[Any]):
            def execute(self, *args: Any, **kwargs: Any) -> Any:
                result = super().execute(*args, **kwargs)
                row = outside.execute(
                    "SELECT coalesce((SELECT max(seq) FROM host_cursor), 0),"
                    " (SELECT count(*) FROM record)"
                ).fetchone()
                assert row is not None
                seen.add((int(row[0]), int(row[1])))
                return result

        conn.cursor_factory = WatchedCursor
        yield seen


def test_cursor_and_rows_are_visible_together(
    index_db: str, conn: Conn, interner: Interner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with visible_states(index_db, conn) as seen:
        a = author(0)
        events: list[CommitEvent] = [a.write(POST, post(str(n)))[1] for n in range(20)]
        for start in range(0, 20, 5):
            batch = events[start : start + 5]
            apply(conn, interner, batch, {HOST: batch[-1].seq})
    # Each event is one record, and has its number.
    assert seen == {(n, n) for n in range(0, 20, 5)}


def test_parts_save_cursor_with_the_last(
    index_db: str, conn: Conn, interner: Interner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_parts, "MOST_LINKS", 4)
    with visible_states(index_db, conn) as seen:
        a, b = author(0), author(1)
        links = [b.uri(f"{POST}/{n}") for n in range(4)]
        note = {"$type": "org.example.note", "to": links}
        events = [a.write("org.example.note", note)[1] for _ in range(6)]
        apply(conn, interner, events[:3], {HOST: 3})
        apply(conn, interner, events[3:], {HOST: 6})
    assert seen == {(0, 0), (0, 1), (0, 2), (3, 3), (3, 4), (3, 5)}


def test_interrupted_parts_can_be_repeated(
    index_db: str, interner: Interner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_parts, "MOST_LINKS", 1)
    authors, before, later = make_batch()
    with psycopg.connect(index_db) as conn:
        apply(conn, interner, before, {HOST: 10})
    MortalCursor.granted = 0
    cursors = []
    while cursors[-1:] != [20]:
        MortalCursor.used = 0
        conn = psycopg.connect(index_db, cursor_factory=MortalCursor)
        with contextlib.suppress(KilledError):
            apply(conn, interner, later, {HOST: 20})
        conn.close()
        cursor, records, _ = look(index_db)
        cursors.append(cursor)
        MortalCursor.granted += 1
    assert set(cursors) == {10, 20}
    assert records == written_records(authors)
    with psycopg.connect(index_db) as conn:
        assert recount_stats(conn).ok
        assert all(audit_repo(conn, each.did).ok for each in authors)
