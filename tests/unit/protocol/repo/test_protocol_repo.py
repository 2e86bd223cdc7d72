"""Whole repos: reading and export."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from protocol.data import cbor
from protocol.data.cid import BLOB_PREFIX, cid_for
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    InvalidTreeError,
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
from protocol.repo.car import car_block, car_header, read_car
from protocol.repo.commit import sign_commit
from protocol.repo.repo_export import export_repo
from protocol.repo.whole_repo import RepoHead, RepoReader, RepoRecord
from protocol.syntax import Did, Tid, tid_time_us

KEY = PrivateKey("k256", b"\x06" * 32)
DID = Did("did:plc:" + "f" * 24)
REV = Tid("3jzfcijpj2z2a")
NOW_US = 4_000_000_000_000_000
Item = tuple[bytes, bytes, bytes]


def item(path: str, text: str = "") -> Item:
    value = cbor.encode({"$type": "test.app.note", "text": text or path})
    return path.encode(), cid_for(value), value


def items_of(count: int, *, texts: int = 10**9) -> list[Item]:
    """Return records of a repo; with few `texts`, many have the same bytes."""
    rng = random.Random(count)
    paths = {f"test.app.note/{rng.randrange(10**12):012}" for _ in range(count)}
    return [item(path, f"text {rng.randrange(texts)}") for path in sorted(paths)]


def sign(items: Iterable[Item], key: PrivateKey = KEY) -> bytes:
    return sign_commit(DID, build_root((key, cid) for key, cid, _ in items), REV, key)


def export(items: Sequence[Item]) -> bytes:
    return b"".join(export_repo(sign(items), lambda: items))


def read(
    car: bytes, piece: int = 4_096, reader: RepoReader | None = None
) -> tuple[list[Item], RepoHead]:
    reader = reader or RepoReader(KEY.public, DID, NOW_US)
    records: list[RepoRecord] = []
    for start in range(0, len(car), piece):
        records += reader.feed(car[start : start + piece])
    head = reader.finish()
    return sorted(
        (f"{one.collection}/{one.rkey}".encode(), one.cid, one.value) for one in records
    ), head


def blocks_of(car: bytes) -> list[tuple[bytes, bytes]]:
    return list(read_car(car).blocks.items())


def deduplicated(items: Sequence[Item]) -> bytes:
    """Return the export with each block once, at the place of its first key."""
    car = export(items)
    return car_of(blocks_of(car), read_car(car).root)


def car_of(blocks: Iterable[tuple[bytes, bytes]], root: bytes) -> bytes:
    return car_header(root) + b"".join(car_block(*block) for block in blocks)


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


def test_export_is_in_pre_order() -> None:
    items = items_of(3_000)
    signed = sign(items)
    car = b"".join(export_repo(signed, lambda: items))
    reader = RepoReader(KEY.public, DID, NOW_US)
    keys = []
    most = 0
    for start in range(0, len(car), 1_000):
        keys += [one.rkey for one in reader.feed(car[start : start + 1_000])]
        assert not reader._spill
        most = max(most, len(reader._wanted))
    assert keys == sorted(keys)
    assert most < 300
    nodes = [node.cid for node in build_nodes((key, cid) for key, cid, _ in items)]
    cids = [cid for cid, _ in blocks_of(car)]
    assert cids[:2] == [cid_for(signed), nodes[-1]]
    assert set(cids) == {cid_for(signed), *nodes, *(cid for _, cid, _ in items)}


@pytest.mark.parametrize("order", ["backwards", "shuffled", "nodes last", "by size"])
@pytest.mark.parametrize("texts", [7, 10**9])
def test_reader_accepts_any_order_of_blocks(order: str, texts: int) -> None:
    items = items_of(700, texts=texts)
    car = export(items)
    root = read_car(car).root
    blocks = blocks_of(car)
    if order == "backwards":
        blocks.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(blocks)
    elif order == "nodes last":
        blocks.sort(key=lambda block: block[1].startswith(b"\xa2ae"))
    else:
        blocks.sort(key=lambda block: len(block[1]))
    records, head = read(car_of(blocks, root))
    assert records == items
    assert head.unused_bytes == 0


def test_reader_finds_a_block_under_many_keys() -> None:
    items = items_of(2_000, texts=3)
    assert len({cid for _, cid, _ in items}) == 3
    assert read(deduplicated(items))[0] == items


def big_items(count: int) -> list[Item]:
    """Return records of 20 kB, with the first repeated at the end."""
    filler = "x" * 20_000
    items = [item(f"test.app.note/{n:05}", f"{n} {filler}") for n in range(count)]
    again = (b"test.app.note/99999", items[0][1], items[0][2])
    return [*items, again]


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
    blocks = sorted(car.blocks.items(), key=lambda b: b[1].startswith(b"\xa2ae"))
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
    blocks.sort(key=lambda block: not block[1].startswith(b"\xa2ae"))
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
    value = cbor.encode({"$type": "test.app.note", "text": "x" * 20_000})
    items = [
        (f"test.app.note/{n:05}".encode(), cid_for(value), value) for n in range(400)
    ]
    once = deduplicated(items)
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


def test_export_refuses_records_that_are_not_signed() -> None:
    items = items_of(40)
    signed = sign(items)
    with pytest.raises(InvalidTreeError):
        export_repo(signed, lambda: items[:-1])
    calls: list[int] = []

    def changing() -> list[Item]:
        calls.append(1)
        return items if len(calls) == 1 else items[:-1]

    with pytest.raises(InvalidTreeError):
        list(export_repo(signed, changing))


def test_export_holds_few_records() -> None:
    items = items_of(6_000)
    signed = sign(items)
    given = 0
    ahead = 0

    def counted() -> Iterable[Item]:
        nonlocal given
        for one in items:
            given += 1
            yield one

    taken = 0
    for piece in export_repo(signed, counted):
        if b"$type" in piece:
            taken += 1
            ahead = max(ahead, given - len(items) - taken)
    assert taken == len(items)
    # Some hundreds of records, as below the fourth level of a tree.
    assert ahead < 2_000


def test_reader_limits_bytes_of_shared_large_blocks() -> None:
    value = cbor.encode({"$type": "test.app.note", "text": "x" * 1_000_000})
    items = [
        (f"test.app.note/{n:05}".encode(), cid_for(value), value) for n in range(400)
    ]
    assert read(deduplicated(items[:4]))[0] == items[:4]
    once = deduplicated(items)
    with pytest.raises(LimitExceededError):
        read(once)


def test_reader_counts_places_that_wait_for_one_block(
    monkeypatch: Any,
) -> None:
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
