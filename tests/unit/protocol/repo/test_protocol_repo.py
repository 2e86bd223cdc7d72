"""Reading of whole repos."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from repo_samples import (
    DID,
    KEY,
    NOW_US,
    REV,
    big_items,
    blocks_of,
    car_of,
    deduplicated,
    export,
    is_node,
    item,
    items_of,
    read,
    shared_items,
    sign,
)

from protocol.data.cid import BLOB_PREFIX, cid_for
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    LimitExceededError,
    MissingBlockError,
    ProtocolError,
    TruncatedError,
)
from protocol.events.drops import DropReason
from protocol.events.event import DroppedOp
from protocol.identity.keys import PrivateKey
from protocol.limits import MAX_REV_AHEAD_US
from protocol.mst import build_nodes, build_root, height
from protocol.repo.car import car_block, read_car
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did, tid_time_us


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 100, 1_500])
@pytest.mark.parametrize("piece", [13, 4_096, 10**9])
def test_repo_is_read_as_it_was_exported(count: int, piece: int) -> None:
    items = items_of(count)
    records, head = read(export(items), piece)
    assert records == items
    signed = sign(items)
    assert (head.did, head.rev, head.commit) == (DID, REV, signed)
    assert head.data == build_root((key, cid) for key, cid, _ in items)
    assert (head.records, head.unused_bytes) == (len(items), 0)


ORDERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "backwards": lambda blocks: blocks[::-1],
    "shuffled": lambda blocks: random.Random(1).sample(blocks, len(blocks)),
    "nodes last": lambda blocks: sorted(blocks, key=is_node),
    "by size": lambda blocks: sorted(blocks, key=lambda block: len(block[1])),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("texts", [7, 10**9])
def test_reader_accepts_any_order_of_blocks(order: str, texts: int) -> None:
    items = items_of(700, texts=texts)
    car = export(items)
    blocks = ORDERS[order](blocks_of(car))
    records, head = read(car_of(blocks, read_car(car).root))
    assert records == items
    assert head.unused_bytes == 0


def test_reader_finds_a_block_under_many_keys() -> None:
    items = items_of(2_000, texts=3)
    assert len({cid for _, cid, _ in items}) == 3
    assert read(deduplicated(items))[0] == items


def test_reader_takes_old_records_from_the_spill() -> None:
    items = big_items(600)
    once = deduplicated(items)
    with pytest.raises(MissingBlockError):
        read(once, 65_536)
    spill: dict[bytes, bytes] = {}
    reader = RepoReader(KEY.public, DID, NOW_US, spill)
    assert read(once, 65_536, reader)[0] == items
    assert spill


@pytest.mark.parametrize("spill", [None, {}], ids=["memory", "spill"])
def test_reader_finds_a_record_twice_in_a_late_node(
    spill: dict[bytes, bytes] | None,
) -> None:
    # All records precede their only node, more than are kept for reuse.
    paths = [path for n in range(100) if not height((path := f"a.b.c/{n:03}").encode())]
    items = [item(path, f"{path} {'x' * 40_000}") for path in paths[:30]]
    same = item(paths[30])
    items += [same, (paths[31].encode(), *same[1:])]
    car = read_car(export(items))
    signed = car.blocks.pop(car.root)
    blocks = sorted(car.blocks.items(), key=is_node)
    reader = RepoReader(KEY.public, DID, NOW_US, spill)
    whole = car_of([(car.root, signed), *blocks], car.root)
    assert read(whole, 10**9, reader)[0] == items


@pytest.mark.parametrize("place", ["after", "before"])
def test_reader_finds_a_record_with_the_bytes_of_a_node(place: str) -> None:
    items = items_of(200)
    nodes = {node.cid: node.raw for node in build_nodes((k, c) for k, c, _ in items)}
    key = b"z.far/a" if place == "after" else b"a.far/a"
    for cid, raw in nodes.items():
        both = sorted([*items, (key, cid, raw)])
        again = {node.cid for node in build_nodes((k, c) for k, c, _ in both)}
        if cid not in again:
            continue
        reader = RepoReader(KEY.public, DID, NOW_US, {})
        assert read(deduplicated(both), 4_096, reader)[0] == both
        return
    raise AssertionError("no node stayed as it was")


def test_reader_limits_memory_for_unordered_blocks() -> None:
    items = big_items(50)
    car = export(items)
    backwards = car_of(reversed(blocks_of(car)), read_car(car).root)
    reader = RepoReader(KEY.public, DID, NOW_US, max_spill_bytes=500_000)
    with pytest.raises(LimitExceededError):
        read(backwards, 65_536, reader)
    reader = RepoReader(KEY.public, DID, NOW_US, max_spill_bytes=2_000_000)
    assert read(backwards, 65_536, reader)[0] == items


def test_reader_defers_nodes_above_the_link_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.repo.whole_repo._MAX_WANTED", 20)
    items = items_of(900)
    car = export(items)
    root = read_car(car).root
    blocks = blocks_of(car)
    # All nodes precede all records.
    blocks.sort(key=is_node, reverse=True)
    reader = RepoReader(KEY.public, DID, NOW_US)
    most = 0
    records = []
    car = car_of(blocks, root)
    for start in range(0, len(car), 500):
        records += reader.feed(car[start : start + 500])
        most = max(most, len(reader._wanted))
    assert reader.finish().records == len(records) == len(items)
    assert most < 60


def test_reader_ignores_and_counts_unneeded_blocks() -> None:
    items = items_of(200)
    car = export(items)
    root = read_car(car).root
    blocks = blocks_of(car)
    extra = [(cid_for(bytes([n])), bytes([n])) for n in range(20)]
    raw = b"a blob"
    extra.append((BLOB_PREFIX + cid_for(raw)[4:], raw))
    records, head = read(car_of([*extra, *blocks, *blocks, *extra], root))
    assert records == items
    assert head.unused_bytes >= sum(len(block) for _, block in blocks)


@pytest.mark.parametrize("count", [1, 30])
def test_truncated_repo_is_refused(count: int) -> None:
    car = export(items_of(count))
    for end in range(0, len(car), 1 if count == 1 else 17):
        with pytest.raises((TruncatedError, MissingBlockError)):
            read(car[:end], 10**9)


def test_repo_with_a_missing_block_is_refused() -> None:
    car = export(items_of(60))
    root = read_car(car).root
    blocks = blocks_of(car)
    for index in range(len(blocks)):
        with pytest.raises(MissingBlockError):
            read(car_of(blocks[:index] + blocks[index + 1 :], root))


def test_every_flipped_bit_is_refused() -> None:
    car = export(items_of(12))
    for bit in range(0, len(car) * 8, 3):
        flipped = bytearray(car)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            read(bytes(flipped))


def test_repo_of_another_account_or_key_is_refused() -> None:
    car = export(items_of(5))
    with pytest.raises(InvalidEncodingError):
        read(car, 99, RepoReader(KEY.public, Did("did:plc:" + "g" * 24), NOW_US))
    other = PrivateKey("k256", b"\x07" * 32)
    with pytest.raises(InvalidSignatureError):
        read(car, 99, RepoReader(other.public, DID, NOW_US))
    # Without a key the signature is not checked.
    assert read(car, 99, RepoReader(None, DID, NOW_US))[1].records == 5


def test_repo_from_the_future_is_refused() -> None:
    car, now = export(items_of(5)), tid_time_us(REV)
    assert read(car, 99, RepoReader(KEY.public, DID, now))[1].rev == REV
    with pytest.raises(LimitExceededError):
        read(car, 99, RepoReader(KEY.public, DID, now - MAX_REV_AHEAD_US - 1))


def test_repo_without_a_commit_is_refused() -> None:
    items = items_of(5)
    nodes = list(build_nodes((key, cid) for key, cid, _ in items))
    with pytest.raises(InvalidEncodingError):
        read(car_of([(node.cid, node.raw) for node in nodes], nodes[-1].cid))


def test_reader_reports_unusable_records() -> None:
    odd = BLOB_PREFIX + bytes(32)
    good = item("test.app.note/a")
    bare, escaped = item("no-slash"), item("x")
    keyed = [
        (b"no-slash", bare[1], bare[2]),
        (b"test.app.note/\xff", escaped[1], escaped[2]),
        (b"test.app.note/odd", odd, b""),
        good,
    ]
    keyed.sort()
    signed = sign(keyed)
    nodes = build_nodes((key, cid) for key, cid, _ in keyed)
    blocks = [(cid_for(signed), signed), *((node.cid, node.raw) for node in nodes)]
    blocks += [(cid, value) for _, cid, value in keyed if cid != odd]
    reader = RepoReader(KEY.public, DID, NOW_US)
    records = reader.feed(car_of(blocks, cid_for(signed)))
    reader.finish()
    assert {(one.collection, one.rkey) for one in records} == {
        ("test.app.note", "a"),
        ("test.app.note", "\udcff"),
    }
    assert sorted(reader.take_drops(), key=lambda drop: drop.path) == [
        DroppedOp("no-slash", bare[1], DropReason.BAD_PATH),
        DroppedOp("test.app.note/odd", odd, DropReason.BAD_RECORD_ENCODING),
    ]
    assert reader.take_drops() == []


def test_reader_limits_bytes_of_shared_small_blocks(monkeypatch: Any) -> None:
    monkeypatch.setattr("protocol.repo.whole_repo.MAX_REPO_BYTES", 3_000_000)
    once = deduplicated(shared_items(400, 20_000))
    assert len(once) < 100_000
    with pytest.raises(LimitExceededError):
        read(once)


def test_reader_limits_bytes_and_records(monkeypatch: Any) -> None:
    car = export(items_of(50))
    monkeypatch.setattr("protocol.repo.whole_repo.MAX_REPO_RECORDS", 49)
    with pytest.raises(LimitExceededError):
        read(car)
    monkeypatch.setattr("protocol.repo.whole_repo.MAX_REPO_RECORDS", 50)
    read(car)
    monkeypatch.setattr("protocol.repo.whole_repo.MAX_REPO_BYTES", len(car) - 1)
    with pytest.raises(LimitExceededError):
        read(car)


def test_reader_limits_bytes_of_shared_large_blocks() -> None:
    items = shared_items(400, 1_000_000)
    assert read(deduplicated(items[:4]))[0] == items[:4]
    with pytest.raises(LimitExceededError):
        read(deduplicated(items))


def test_reader_counts_places_that_wait_for_one_block(monkeypatch: Any) -> None:
    monkeypatch.setattr("protocol.repo.whole_repo._MAX_WANTED", 500)
    items = items_of(4_000, texts=1)
    car = export(items)
    commit, *blocks = blocks_of(car)
    value = next(block for block in blocks if block[0] == items[0][1])
    blocks.remove(value)
    # The record comes last; until then the number of places is limited.
    spill: dict[bytes, bytes] = {}
    reader = RepoReader(KEY.public, DID, NOW_US, spill)
    found = reader.feed(car_of([commit, *blocks], read_car(car).root))
    assert found == []
    assert len(spill) > 100
    records = reader.feed(car_block(*value))
    assert len(records) == 4_000
    reader.finish()
    small = RepoReader(KEY.public, DID, NOW_US, max_spill_bytes=50_000)
    with pytest.raises(LimitExceededError):
        small.feed(car_of([commit, *blocks], read_car(car).root))
