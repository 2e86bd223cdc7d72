"""Records of a collection, network-wide, in pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from indexer_steps import actor_id
from indexer_world import NOW, POST, Author, author, post

from indexer.apply import apply_batch
from storage.collections import COLLECTION_IDS, FEED_LIKE
from storage.postgres.pool import Conn
from storage.records import listing
from storage.records.addresses import Address
from storage.records.interning import Interner
from storage.records.listing import fetch_listed, list_records

RECIPE = "org.example.recipe"


def recipe(number: int) -> dict[str, Any]:
    return {"$type": RECIPE, "title": f"soup {number}"}


def read_all(conn: Conn, collection: int, size: int) -> list[Address]:
    found: list[Address] = []
    after = None
    while True:
        page = list_records(conn, collection, limit=size, after=after)
        found += [item.address for item in page if item.address is not None]
        if len(page) < size:
            conn.rollback()
            return found
        after = page[-1].keyset


class Writer:
    """Applies commits at times that go on."""

    def __init__(self, conn: Conn, interner: Interner) -> None:
        self.conn, self.interner, self.now = conn, interner, NOW

    def apply(self, *events: Any) -> None:
        self.now += timedelta(seconds=1)
        cursors = {event.host: event.seq for event in events}
        apply_batch(self.conn, self.interner, events, cursors, self.now)


@pytest.fixture
def writer(conn: Conn, interner: Interner) -> Writer:
    return Writer(conn, interner)


def write_recipes(writer: Writer, authors: list[Author]) -> None:
    for number in range(7):
        one = authors[number % len(authors)]
        # Two of a batch have equal times; one key is no TID.
        writer.apply(
            one.commit(
                {
                    f"{RECIPE}/soup-{number}": recipe(number),
                    f"{RECIPE}/3laaaaaaaa{number + 2}22": recipe(number),
                }
            )
        )


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_hold_every_record_once_newest_first(
    conn: Conn, writer: Writer, interner: Interner, size: int
) -> None:
    write_recipes(writer, [author(0), author(1)])
    collection = interner.collections([RECIPE])[RECIPE]
    found = read_all(conn, collection, size)
    assert len(found) == len({*found}) == 14
    times = fetch_listed(conn, found)
    assert [times[a] for a in found] == sorted(times.values(), reverse=True)


def test_update_keeps_its_place_and_deletion_removes(
    conn: Conn, writer: Writer, interner: Interner
) -> None:
    one = author(0)
    writer.apply(one.commit({f"{RECIPE}/{k}": recipe(1) for k in ("a", "b", "c")}))
    collection = interner.collections([RECIPE])[RECIPE]
    before = read_all(conn, collection, 10)
    writer.apply(one.commit({f"{RECIPE}/b": recipe(2)}))
    assert read_all(conn, collection, 10) == before
    writer.apply(one.commit({f"{RECIPE}/b": None}))
    rkey = interner.rkeys(["b"])["b"]
    assert read_all(conn, collection, 10) == [a for a in before if a.rkey != rkey]


def test_concurrent_writes_neither_repeat_nor_hide_a_record(
    conn: Conn, writer: Writer, interner: Interner
) -> None:
    one = author(0)
    keys = [f"k{number}" for number in range(6)]
    for key in keys:
        writer.apply(one.commit({f"{RECIPE}/{key}": recipe(1)}))
    collection = interner.collections([RECIPE])[RECIPE]
    there = {*read_all(conn, collection, 10)}
    seen: list[Address] = []
    after = None
    for number in range(20):
        page = list_records(conn, collection, limit=1, after=after)
        conn.rollback()
        if not page:
            break
        seen.append(page[0].address)  # type: ignore[arg-type]
        after = page[0].keyset
        writer.apply(
            one.commit(
                {
                    f"{RECIPE}/new{number}": recipe(2),
                    f"{RECIPE}/{keys[number % 6]}": recipe(number + 3),
                }
            )
        )
    assert len(seen) == len({*seen})
    assert there <= {*seen}


def test_posts_and_edges_are_listed_too(
    conn: Conn,
    interner: Interner,
    writer: Writer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "_FIRST_STEP", 1)
    path, event = author(0).write(POST, post("hello"))
    writer.apply(event)
    uri = author(0).uri(path)
    for number in range(1, 5):
        subject = {"uri": uri, "cid": "bafyreib2rxk3rh6kzwq"}
        like = {"$type": FEED_LIKE, "subject": subject, "createdAt": NOW.isoformat()}
        one = author(number)
        writer.apply(one.commit({f"{FEED_LIKE}/x{k}": like for k in range(number % 3)}))
    for size in (1, 2, 50):
        likes = read_all(conn, COLLECTION_IDS[FEED_LIKE], size)
        assert len(likes) == len({*likes}) == 1 + 2 + 1
        assert [a.actor for a in likes] == sorted(
            (a.actor for a in likes), reverse=True
        )
    [found] = read_all(conn, COLLECTION_IDS[POST], 5)
    assert found.actor == actor_id(conn, author(0).did)


def test_sparse_edges_fill_a_page_with_positions(
    conn: Conn,
    writer: Writer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "_FIRST_STEP", 1)
    monkeypatch.setattr(listing, "_LARGEST_STEP", 1)
    monkeypatch.setattr(listing, "_STEPS", 2)
    for number in range(5):
        writer.apply(author(number).write(POST, post("x"))[1])
    collection = COLLECTION_IDS[FEED_LIKE]
    page = list_records(conn, collection, limit=3, after=None)
    assert [item.address for item in page] == [None] * 3
    assert read_all(conn, collection, 3) == []


def test_unknown_collection_is_empty(conn: Conn) -> None:
    assert list_records(conn, 999_999, limit=5, after=None) == []
