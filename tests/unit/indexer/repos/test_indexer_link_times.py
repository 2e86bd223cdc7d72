"""Sort times of edges: from createdAt and indexing, never from record keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from indexer_world import FOLLOW, LIKE, NOW, POST, Author, author, follow, like

from indexer.repos.checkout import Checkout
from protocol.syntax import tid_from_int
from storage.postgres.pool import Conn
from storage.records.interning import Interner

FAR = tid_from_int((5_600_000_000_000_000 << 10) | 1)  # a key of 2147
TIMES: dict[Any, datetime] = {
    "2023-05-06T07:08:09.123Z": datetime(2023, 5, 6, 7, 8, 9, 123_000, UTC),
    "2023-05-06T07:08:09.123457Z": datetime(2023, 5, 6, 7, 8, 9, 123_457, UTC),
    "2023-05-06T07:08:09.123456+02:00": datetime(2023, 5, 6, 5, 8, 9, 123_456, UTC),
    "1583-01-02T03:04:05.000001Z": datetime(1583, 1, 2, 3, 4, 5, 1, UTC),
    "0000-01-01T00:00:00.000Z": datetime(1, 1, 1, tzinfo=UTC),
    "2148-01-01T00:00:00.000Z": NOW,
    "9999-12-31T23:59:59.999Z": NOW,
    "yesterday": NOW,
    7: NOW,
    None: NOW,
}


def writes_of_every_time(other: Author) -> tuple[dict[str, Any], dict[str, datetime]]:
    """Return edges of every time and kind of key: path -> record, path -> time."""
    writes: dict[str, Any] = {}
    expected: dict[str, datetime] = {}
    for (text, time), last in zip(TIMES.items(), "bcdefghijk", strict=True):
        target = other.uri(f"{POST}/3kaaaaaaaaa2{last}")
        values = {
            f"{LIKE}/key-{last}": like(target),
            f"{LIKE}/{FAR[:-1]}{last}": like(other.uri(f"{POST}/3kaaaaaaaaa4{last}")),
            f"{FOLLOW}/3kaaaaaaaaa3{last}": follow(author(9).did[:-1] + last),
        }
        for path, value in values.items():
            value["createdAt"] = text
            if text is None:
                del value["createdAt"]
            writes[path] = value
            expected[path] = time
    return writes, expected


def held(conn: Conn) -> dict[str, datetime]:
    rows = conn.execute(
        "SELECT nsid, l.rkey, r.text, l.sort_at FROM link l"
        " JOIN path p ON p.id = l.path JOIN collection c ON c.id = p.collection"
        " LEFT JOIN rkey r ON r.id = l.rkey"
    ).fetchall()
    conn.rollback()
    return {f"{n}/{text or tid_from_int(rkey)}": time for n, rkey, text, time in rows}


def test_edges_sort_by_earlier_of_created_and_indexed(conn: Conn, apply: Any) -> None:
    a, b = author(0), author(1)
    writes, expected = writes_of_every_time(b)
    apply(a.commit(writes))
    assert held(conn) == expected


def test_fetched_edges_have_the_same_times(conn: Conn, interner: Interner) -> None:
    a, b = author(0), author(1)
    writes, expected = writes_of_every_time(b)
    a.commit(writes)
    with Checkout(conn, interner, a.did, a.host, now=NOW) as checkout:
        checkout.add(a.repo_records())
        checkout.finish(a.head())
    assert held(conn) == expected


def test_kept_edge_keeps_its_time(conn: Conn, apply: Any, interner: Interner) -> None:
    a, b = author(0), author(1)
    writes, expected = writes_of_every_time(b)
    apply(a.commit(writes))
    later = NOW + timedelta(days=365)
    with Checkout(conn, interner, a.did, a.host, now=later) as checkout:
        checkout.add(a.repo_records())
        checkout.finish(a.head())
    assert held(conn) == expected
