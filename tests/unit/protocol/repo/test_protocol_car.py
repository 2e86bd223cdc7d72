"""CAR files."""

from __future__ import annotations

import random
import time
import tracemalloc
from hashlib import sha256

import pytest

from protocol.data import cbor
from protocol.data.cid import Cid, cid_for, raw_cid_for
from protocol.errors import (
    InvalidEncodingError,
    LimitExceededError,
    MissingBlockError,
    ProtocolError,
    TruncatedError,
)
from protocol.repo.car import Car, CarReader, car_block, car_header, read_car


def make_blocks(seed: int, count: int = 12) -> list[bytes]:
    rng = random.Random(seed)
    # Lengths of one, two and three bytes.
    sizes = [rng.choice((5, 60, 91, 92, 300, 2_000, 20_000)) for _ in range(count)]
    return [
        cbor.encode({"n": n, "x": rng.randbytes(size)}) for n, size in enumerate(sizes)
    ]


def make_car(blocks: list[bytes]) -> bytes:
    return car_header(cid_for(blocks[0])) + b"".join(
        car_block(cid_for(block), block) for block in blocks
    )


def header(value: object) -> bytes:
    raw = cbor.encode(value)
    assert len(raw) < 128
    return bytes([len(raw)]) + raw


def read_in_pieces(raw: bytes, size: int) -> tuple[CarReader, dict[bytes, bytes]]:
    reader = CarReader()
    blocks: dict[bytes, bytes] = {}
    for start in range(0, len(raw), size):
        blocks.update(reader.feed(raw[start : start + size]))
    return reader, blocks


def assert_refused(raw: bytes, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        read_car(raw)
    with pytest.raises(error):
        read_in_pieces(raw, 4_096)[0].close()


def test_car_header_is_canonical() -> None:
    root = cid_for(b"x")
    assert car_header(root) == header({"roots": [Cid(root)], "version": 1})


def test_car_is_read_whole_and_in_pieces() -> None:
    blocks = make_blocks(1)
    raw = make_car(blocks)
    car = read_car(raw)
    root = cid_for(blocks[0])
    expected = {cid_for(block): block for block in blocks}
    assert car == Car(root, (root,), expected)
    assert list(car.blocks) == list(expected)
    for size in (1, 7, 100, 4_096, len(raw)):
        reader, found = read_in_pieces(raw, size)
        reader.close()
        assert reader.root == root
        assert reader.roots == (root,)
        assert found == expected
        assert all(type(block) is bytes for block in found.values())


def test_car_with_a_flipped_bit_is_refused() -> None:
    flipped = 0
    for seed in range(60):
        rng = random.Random(seed)
        blocks = make_blocks(seed)
        raw = bytearray(make_car(blocks))
        end = len(car_header(cid_for(blocks[0])))
        for block in blocks:
            start = raw.index(cid_for(block), end)
            end = start + 36 + len(block)
            position = rng.randrange(start, end)
            raw[position] ^= 1 << rng.randrange(8)
            assert_refused(bytes(raw), InvalidEncodingError)
            raw[position : position + 1] = make_car(blocks)[position : position + 1]
            flipped += 1
        read_car(bytes(raw))
    assert flipped == 720


def test_truncated_car_is_refused() -> None:
    """A cut between two blocks gives a shorter CAR, any other an error."""
    blocks = make_blocks(3, count=5)
    raw = make_car(blocks)
    borders = {len(car_header(cid_for(blocks[0])))}
    for block in blocks:
        borders.add(max(borders) + len(car_block(cid_for(block), block)))
    for cut in range(len(raw)):
        reader, found = read_in_pieces(raw[:cut], 1_000_000)
        if cut in borders:
            reader.close()
            assert len(found) == len([border for border in borders if border < cut])
        else:
            with pytest.raises(TruncatedError):
                reader.close()
        if cut in borders and found:
            assert len(read_car(raw[:cut]).blocks) == len(found)
        else:
            with pytest.raises((TruncatedError, MissingBlockError)):
                read_car(raw[:cut])


def test_car_with_reordered_repeated_or_extra_blocks() -> None:
    blocks = make_blocks(4)
    expected = read_car(make_car(blocks)).blocks
    raw = car_header(cid_for(blocks[0]))
    for block in [*reversed(blocks), *blocks]:
        raw += car_block(cid_for(block), block)
    assert read_car(raw).blocks == expected
    blob = b"a blob"
    extra = read_car(raw + car_block(raw_cid_for(blob), blob))
    assert extra.blocks == expected | {raw_cid_for(blob): blob}
    empty = read_car(raw + car_block(raw_cid_for(b""), b""))
    assert empty.blocks[raw_cid_for(b"")] == b""


def test_car_with_two_roots() -> None:
    block = b"\xa0"
    links = [Cid(cid_for(block)), Cid(raw_cid_for(b"other"))]
    raw = header({"roots": links, "version": 1}) + car_block(cid_for(block), block)
    car = read_car(raw)
    assert car.root == cid_for(block)
    assert car.roots == (cid_for(block), raw_cid_for(b"other"))
    reader, found = read_in_pieces(raw, 10)
    assert reader.roots == car.roots
    assert found == car.blocks


CID = cid_for(b"\xa0")


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\x00",
        header({"roots": [Cid(CID)], "version": 2}),
        header({"roots": [Cid(CID)], "version": True}),
        header({"roots": [Cid(CID)]}),
        header({"roots": [], "version": 1}),
        header({"version": 1}),
        header({"roots": Cid(CID), "version": 1}),
        header({"roots": [CID], "version": 1}),
        header({"roots": [Cid(raw_cid_for(b"\xa0"))], "version": 1}),
        header({"roots": [Cid(b"\x01\x71\x00\x00")], "version": 1}),
        header({"roots": [Cid(CID), "x"], "version": 1}),
        header([1]),
        header(None),
        b"\x05hello",
        car_header(raw_cid_for(b"\xa0")),
        bytes.fromhex("0aa16776657273696f6e02"),
    ],
)
def test_car_with_an_invalid_header_is_refused(start: bytes) -> None:
    assert_refused(start + car_block(CID, b"\xa0"), InvalidEncodingError)


def test_car_with_too_many_roots_is_refused() -> None:
    roots = [Cid(cid_for(b"%d" % n)) for n in range(65)]
    raw = cbor.encode({"roots": roots, "version": 1})
    size = bytes([len(raw) & 0x7F | 0x80, len(raw) >> 7])
    assert_refused(size + raw, LimitExceededError)


def test_car_without_its_root_is_refused() -> None:
    raw = car_header(cid_for(b"x")) + car_block(CID, b"\xa0")
    with pytest.raises(MissingBlockError):
        read_car(raw)
    with pytest.raises(MissingBlockError):
        read_car(car_header(cid_for(b"x")))


@pytest.mark.parametrize(
    ("section", "error"),
    [
        (b"\x00", InvalidEncodingError),
        (b"\x01\x01", InvalidEncodingError),
        (b"\x23" + CID[:35], InvalidEncodingError),
        # A CID whose last byte, 85, is also the length of what follows.
        (b"\x23" + cid_for(b"") + cid_for(b"x" * 49) + b"x" * 49, InvalidEncodingError),
        # 37 bytes, the length written in two.
        (b"\xa5\x00" + CID + b"\xa0", InvalidEncodingError),
        (b"\xa5\x80\x00" + CID + b"\xa0", InvalidEncodingError),
        (b"\xa5" + b"\x80" * 8 + b"\x00" + CID, InvalidEncodingError),
        (b"\x80" * 10 + b"\x01", InvalidEncodingError),
        (b"\xff" * 40, InvalidEncodingError),
        (b"\xff" * 9 + b"\x01", LimitExceededError),
        (b"\xff\xff\xff\x01", LimitExceededError),
        # A CID of version 0, and one with another hash.
        (b"\x22\x12\x20" + sha256(b"").digest(), InvalidEncodingError),
        (b"\x25\x01\x71\x13\x20" + bytes(32) + b"\xa0", InvalidEncodingError),
        (
            b"\x25\x01\x70\x12\x20" + sha256(b"\xa0").digest() + b"\xa0",
            InvalidEncodingError,
        ),
        (b"\xff", TruncatedError),
        (b"\x25", TruncatedError),
        (b"\x25" + CID, TruncatedError),
        (b"\xac\x02" + CID, TruncatedError),
    ],
)
def test_car_with_an_invalid_section_is_refused(
    section: bytes, error: type[ProtocolError]
) -> None:
    raw = car_header(CID) + car_block(CID, b"\xa0")
    read_car(raw)
    assert_refused(raw + section, error)


def test_car_limits_blocks() -> None:
    block = b"b" * 2_097_152
    raw = car_header(cid_for(block)) + car_block(cid_for(block), block)
    assert read_car(raw).blocks == {cid_for(block): block}
    assert read_in_pieces(raw, 65_536)[1] == {cid_for(block): block}
    block += b"b"
    raw = car_header(cid_for(block)) + car_block(cid_for(block), block)
    assert_refused(raw, LimitExceededError)


def test_car_limits_its_header() -> None:
    assert_refused(b"\x81\x80\x04" + bytes(65_537), LimitExceededError)


def test_car_reader_before_its_header() -> None:
    reader = CarReader()
    assert reader.roots == ()
    with pytest.raises(TruncatedError):
        reader.close()
    with pytest.raises(TruncatedError):
        _ = reader.root
    assert reader.feed(b"") == []


def test_car_reader_holds_one_block() -> None:
    blocks = [b"%04d" % n + bytes(1_000_000) for n in range(8)]
    raw = make_car(blocks)
    reader = CarReader()
    count = 0
    tracemalloc.start()
    try:
        for start in range(0, len(raw), 16_384):
            count += len(reader.feed(raw[start : start + 16_384]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    reader.close()
    assert count == 8
    # One section in pieces, the joined section, and its block.
    assert peak < 4 * 1_000_000


def test_car_reader_joins_a_large_block_once() -> None:
    block = bytes(2_000_000)
    raw = car_header(cid_for(block)) + car_block(cid_for(block), block)
    started = time.process_time()
    assert read_in_pieces(raw, 16)[1] == {cid_for(block): block}
    # Joining all pieces each time would copy 120 GB.
    assert time.process_time() - started < 1
