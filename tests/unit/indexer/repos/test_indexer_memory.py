"""Memory of a batch while its rows are made."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from indexer.changes import Change, prepare
from indexer.repos.import_rows import Addressed, prepare_import
from protocol.data import cbor
from protocol.data.cid import cid_for
from protocol.repo.whole_repo import RepoRecord
from storage.collections import COLLECTION_IDS, FEED_LIKE, FEED_POST
from storage.records.edge_batch import SHAPE_OF
from storage.records.interning import Interner

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_HEAD = {"text": "", "createdAt": "2026-01-01T00:00:00Z", "$type": FEED_POST}


class Numbers:
    """An interner without tables that measures the memory held when it is called."""

    def __init__(self) -> None:
        self.most_held = 0

    def actors(self, names: Iterable[Any]) -> dict[Any, int]:
        self.most_held = max(self.most_held, len(gc.get_objects()))
        return {name: number for number, name in enumerate(names)}

    def rkeys(self, names: Iterable[Any]) -> dict[Any, int]:
        return {name: number for number, name in enumerate(names)}

    collections = paths = rkeys


def in_a_list(item: Any, count: int) -> bytes:
    return cbor.encode(_HEAD | {"more": [item] * count})


def as_large_as_a_like() -> bytes:
    size = SHAPE_OF[FEED_LIKE].size
    values = (cbor.encode({"$type": FEED_LIKE, "x": [[]] * n}) for n in range(size))
    return next(value for value in values if len(value) == size)


def many_links(count: int) -> bytes:
    return cbor.encode(_HEAD | {"more": [f"did:a:{n:x}" for n in range(count)]})


@pytest.mark.parametrize(
    ("nsid", "value", "total"),
    [
        (FEED_POST, in_a_list([], 2_000), 512 * 1024),
        (FEED_POST, in_a_list({}, 30_000), 512 * 1024),
        (FEED_POST, in_a_list([[[[]]]], 200), 512 * 1024),
        (FEED_POST, in_a_list({"": {"": []}}, 200), 1024**2),
        (FEED_LIKE, as_large_as_a_like(), 512 * 1024),
        (FEED_POST, many_links(1_000), 1024**2),
        (FEED_POST, many_links(20), 1024**2),
    ],
    ids=["lists", "maps", "nested", "nested maps", "like a like", "links", "few links"],
)
@pytest.mark.parametrize("live", [False, True])
def test_memory_is_bounded(nsid: str, value: bytes, total: int, live: bool) -> None:
    count = total // len(value)
    collection, cid = COLLECTION_IDS[nsid], cid_for(value)
    records = [RepoRecord(nsid, f"k{n}", cid, value) for n in range(count)]
    group = Addressed(1, nsid, collection, list(range(count)), list(records))
    changes = [Change(1, collection, n, nsid, None, value) for n in range(count)]
    numbers = Numbers()
    interner = cast("Interner", numbers)
    before = len(gc.get_objects())
    if live:
        pieces = prepare(changes, interner, NOW)
    else:
        pieces = prepare_import([group], interner, NOW, [])
    made = links = 0
    for prepared in pieces:
        made += len(prepared.records)
        links = max(links, *map(len, prepared.links.values()), 0)
    assert made == count
    assert links < 60_000
    assert numbers.most_held - before < 200_000
