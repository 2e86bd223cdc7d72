"""The records and paths of a commit that are dropped alone, and their size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from handmade_commits import KEY, NOW_US, Author, car_of, reason_of, record, verify

from crawler.live.rejections import UNFOLLOWED, RejectedError
from crawler.live.verify import verify_commit
from protocol.data import cbor
from protocol.data.cbor_scan import scan_items
from protocol.data.cid import BLOB_PREFIX, cid_for
from protocol.data.record import open_record
from protocol.events.drops import DropReason
from protocol.events.event import DroppedOp
from protocol.limits import (
    MAX_COMMIT_ITEMS,
    MAX_RECORD_BYTES,
    MAX_RECORD_DEPTH,
    UNCOUNTED_RECORD_BYTES,
)
from protocol.repo.car import read_car


def test_bad_path_drops_its_operation_only() -> None:
    paths = [
        "test.app.note/" + "r" * 513,
        "test.app.note/..",
        "test.app.note/a/b",
        "test.app.note/ä",
        "test.app.note/",
        "note",
        "$test.app.note/a",
        "/a",
        "test.app.note/" + "r" * 900,
    ]
    author = Author()
    made = author.commit(
        *((path, record(path)) for path in paths),
        ("test.app.note/a:b", record("colon")),
    )
    event = verify(made)
    assert [op.rkey for op in event.ops] == ["a:b"]
    assert list(event.drops) == [
        DroppedOp(path, cid_for(record(path)), DropReason.BAD_PATH) for path in paths
    ]
    gone = verify(author.commit(*((path, None) for path in paths)))
    assert list(gone.drops) == [
        DroppedOp(path, None, DropReason.BAD_PATH) for path in paths
    ]


def test_bad_record_drops_its_operation_only() -> None:
    def sized(size: int) -> bytes:
        start = record("")
        return cbor.encode(
            {"$type": "test.app.note", "text": "x" * (size - len(start) - 4)}
        )

    largest, too_large = sized(MAX_RECORD_BYTES), sized(MAX_RECORD_BYTES + 1)
    assert len(largest) == MAX_RECORD_BYTES
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    bad = {
        "float": (b"\xa1axg\xfb\x3f\xf8" + bytes(6), DropReason.BAD_RECORD_ENCODING),
        "half": (b"\xa1ax\xf9\x3e\x00", DropReason.BAD_RECORD_ENCODING),
        "minimal": (b"\xa1ax\x18\x01", DropReason.BAD_RECORD_ENCODING),
        "trailing": (record() + b"\x00", DropReason.BAD_RECORD_ENCODING),
        "unsorted": (b"\xa2ab\x01aa\x01", DropReason.BAD_RECORD_ENCODING),
        "empty": (b"", DropReason.BAD_RECORD_ENCODING),
        "list": (b"\x80", DropReason.BAD_RECORD_TYPE),
        "deep": (cbor.encode({"a": deep}), DropReason.RECORD_TOO_DEEP),
    }
    made = Author().commit(
        ("test.app.note/good", record("good")),
        *((f"test.app.note/{name}", value) for name, (value, _) in bad.items()),
    )
    event = verify(made)
    assert [op.rkey for op in event.ops] == ["good"]
    assert list(event.drops) == [
        DroppedOp(f"test.app.note/{name}", cid_for(value), reason)
        for name, (value, reason) in bad.items()
    ]
    event = verify(Author().commit(("test.app.note/a", largest)))
    assert len(event.ops) == 1
    event = verify(
        Author().commit(("test.app.note/a", too_large), ("test.app.note/b", record()))
    )
    assert [op.rkey for op in event.ops] == ["b"]
    assert [drop.reason for drop in event.drops] == [DropReason.RECORD_TOO_LARGE]


def test_record_link_of_another_form_is_dropped() -> None:
    author = Author()
    author.tree.put(b"test.app.note/odd", BLOB_PREFIX + bytes(32))
    made = author.commit(("test.app.note/good", record("good")))
    odd = BLOB_PREFIX + bytes(32)
    path = "test.app.note/odd"
    # The odd record is part of this commit, not of what came before it.
    author.tree.delete(path.encode())
    author.tree.delete(b"test.app.note/good")
    made["prevData"] = author.tree.root()
    made["ops"].append({"action": "create", "path": path, "cid": odd})
    author.tree.put(path.encode(), odd)
    author.tree.put(b"test.app.note/good", cid_for(record("good")))
    proof = author.tree.proof_blocks([path.encode(), b"test.app.note/good"])
    car = read_car(made["blocks"])
    made["blocks"] = car_of(car.blocks[car.root], car.blocks | proof)
    event = verify(made)
    assert [op.rkey for op in event.ops] == ["good"]
    assert list(event.drops) == [DroppedOp(path, odd, DropReason.BAD_RECORD_ENCODING)]


def test_one_record_at_many_paths_counts_each_time() -> None:
    """A message of 80 kB could take a hundred times the room where its records are
    kept."""
    heavy = cbor.encode({"$type": "test.app.note", "x": "x" * 60_000})
    for count, taken in ((30, True), (40, False)):
        paths = [f"test.app.note/n{number:03}" for number in range(count)]
        body = Author().commit(*((path, heavy) for path in paths))
        assert len(body["blocks"]) < 80_000
        if taken:
            assert len(verify_commit(body, KEY.public, NOW_US).ops) == count
            continue
        with pytest.raises(RejectedError) as caught:
            verify_commit(body, KEY.public, NOW_US)
        # Signed all the same: the repo is fetched.
        assert caught.value.reason is DropReason.TREE_TOO_LARGE
        assert caught.value.reason in UNFOLLOWED


def heavy(items: int, size: int = 0) -> bytes:
    """Return a record of empty lists, of which each byte is a list of its own."""
    return cbor.encode({"more": [[]] * items, "text": "x" * size})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: [heavy(30_000, n) for n in range(60)], "many records full of items"),
        (lambda: [heavy(60_000)] * 200, "one record full of items under many keys"),
        (lambda: [heavy(3, 900_000)] * 200, "one large record under many keys"),
        (lambda: [heavy(8_000, n) for n in range(200)], "many of an unread size"),
    ],
)
def test_records_that_take_long_to_read_are_left_to_a_fetch(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], list[bytes]], why: str
) -> None:
    changes = [(f"test.app.note/m{n:03}", raw) for n, raw in enumerate(make())]
    made = Author().commit(*changes)
    assert len(made["blocks"]) < 2_000_000, why
    opened: list[bytes] = []

    def watched(value: bytes, most: int) -> Any:
        opened.append(value)
        return open_record(value, most)

    monkeypatch.setattr("crawler.live.verify.open_record", watched)
    reason = reason_of(made)
    items = sum(scan_items(value, max_depth=MAX_RECORD_DEPTH)[1] for value in opened)
    # A byte may be a container and an item of another.
    assert items <= 2 * UNCOUNTED_RECORD_BYTES + MAX_COMMIT_ITEMS, why
    assert reason == DropReason.TREE_TOO_LARGE
    assert reason in UNFOLLOWED


def test_one_record_may_stand_under_all_keys_of_a_commit() -> None:
    changes = [(f"test.app.note/m{n:03}", heavy(20, 8_000)) for n in range(200)]
    assert len(verify(Author().commit(*changes)).ops) == 200


def test_large_records_are_not_passed_on_decoded() -> None:
    small, large = heavy(200), heavy(1_000)
    for values, kept in (([small], 1), ([large], 0), ([small] * 100, 2)):
        changes = [(f"test.app.note/m{n:03}", raw) for n, raw in enumerate(values)]
        ops = verify(Author().commit(*changes)).ops
        assert [op.value for op in ops] == values
        assert sum(op.fields is not None for op in ops) == kept
