"""Reads of records in bounded pieces."""

from __future__ import annotations

import random

import pytest

from storage.postgres.pool import Conn
from storage.records import record_rows as records_module
from storage.records.record_rows import (
    copy_records,
    fetch_pieces,
    fetch_records,
    iter_pages,
    iter_repo,
    pack_records,
    read_page,
)

LARGE = 100_000
ADDRESSES = [(1, collection, rkey) for collection in (1, 2) for rkey in range(1, 41)]


def value_of(index: int) -> bytes:
    """Return a value: every fifth is large, every seventh only once unpacked."""
    rng = random.Random(index)
    if index % 5 == 0:
        return rng.randbytes(LARGE)
    return bytes(LARGE) if index % 7 == 0 else rng.randbytes(50)


VALUES = {a: value_of(index) for index, a in enumerate(ADDRESSES)}


@pytest.fixture(autouse=True)
def written(conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    copy_records(conn, pack_records(ADDRESSES, list(VALUES.values())))
    monkeypatch.setattr(records_module, "_PAGE_ROWS", 30)
    monkeypatch.setattr(records_module, "PAGE_BYTES", 250_000)


def assert_bounded(values: list[bytes]) -> None:
    assert len(values) <= 30
    # Over the bound by the last of them at most.
    assert sum(map(len, values[:-1])) <= 250_000


def test_large_values_are_not_in_pages(conn: Conn) -> None:
    rows = conn.execute(
        f"SELECT rkey, {records_module._SMALL} FROM record WHERE actor = 1"
        " AND collection = 1"
    ).fetchall()
    assert {rkey - 1 for rkey, stored in rows if stored is None} == {*range(0, 40, 5)}


def test_pieces(conn: Conn) -> None:
    asked = random.Random(1).sample([*ADDRESSES, *((9, 9, n) for n in range(40))], 120)
    pieces = list(fetch_pieces(conn, asked))
    assert [address for piece, _ in pieces for address in piece] == asked
    for piece, found in pieces:
        assert found == {a: VALUES[a] for a in piece if a in VALUES}
        assert_bounded(list(found.values()))
    assert len(pieces) > 4
    assert fetch_records(conn, asked) == VALUES
    assert list(fetch_pieces(conn, [])) == []


def test_pages(conn: Conn) -> None:
    pages = list(iter_pages(conn, 1))
    for page in pages:
        assert_bounded([value for _, _, value in page])
    assert [((1, c, r), v) for page in pages for c, r, v in page] == [*VALUES.items()]
    assert len(pages) > 3


def test_the_last_page_is_known(conn: Conn) -> None:
    everything = len(ADDRESSES)
    page, last = read_page(conn, 1, after=(2, 38))
    assert [rkey for _, rkey, _ in page] == [39, 40]
    assert last
    assert read_page(conn, 1, after=(2, 40)) == ([], True)
    # As many as were asked for, so there may be more; and one cut short by its size.
    page, last = read_page(conn, 1, after=(2, 38), rows=2)
    assert (len(page), last) == (2, False)
    page, last = read_page(conn, 1, rows=everything)
    assert len(page) < everything
    assert not last


def test_a_repo_with_large_records(conn: Conn) -> None:
    held = list(iter_repo(conn, 1))
    assert sorted(value or b"" for _, _, value in held) == sorted(VALUES.values())
    assert [key for key, _, _ in held] == sorted(key for key, _, _ in held)
