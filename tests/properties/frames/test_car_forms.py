"""CAR files whole, in pieces, and damaged at random."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.data.cid import cid_for, raw_cid_for
from protocol.errors import ProtocolError
from protocol.repo.car import CarReader, car_block, car_header, read_car

block_lists = st.lists(st.binary(max_size=200), min_size=1, max_size=6)


def make_car(blocks: list[bytes]) -> bytes:
    first, *others = blocks
    return (
        car_header(cid_for(first))
        + car_block(cid_for(first), first)
        + b"".join(car_block(raw_cid_for(block), block) for block in others)
    )


@given(block_lists, st.lists(st.integers(1, 300), max_size=20))
def test_car_in_pieces_reads_like_the_whole(
    blocks: list[bytes], sizes: list[int]
) -> None:
    raw = make_car(blocks)
    whole = read_car(raw)
    reader = CarReader()
    found: list[tuple[bytes, bytes]] = []
    position = 0
    for size in sizes:
        found += reader.feed(raw[position : position + size])
        position += size
    found += reader.feed(raw[position:])
    reader.close()
    assert dict(found) == whole.blocks
    assert [block for _, block in found] == blocks
    assert reader.root == whole.root == cid_for(blocks[0])


def accepted_blocks(raw: bytes) -> dict[bytes, bytes] | None:
    try:
        return read_car(raw).blocks
    except ProtocolError:
        return None


def damage(rng: random.Random, raw: bytes) -> bytes:
    out = bytearray(raw)
    position = rng.randrange(len(out))
    kind = rng.randrange(5)
    if kind == 0:
        out[position] ^= 1 << rng.randrange(8)
    elif kind == 1:
        out[position] = rng.choice((0x00, 0x7F, 0x80, 0xFF))
    elif kind == 2:
        del out[position : position + rng.randrange(1, 50)]
    elif kind == 3:
        out[position:position] = rng.randbytes(rng.randrange(1, 50))
    else:
        del out[position:]
    return bytes(out)


def count_damaged(seed: int, count: int) -> int:
    """Count the damaged files that are refused; the others hold only valid blocks."""
    rng = random.Random(seed)
    refused = 0
    for _ in range(count):
        raw = make_car([rng.randbytes(rng.randrange(300)) for _ in range(4)])
        damaged = damage(rng, raw)
        blocks = accepted_blocks(damaged)
        if blocks is None:
            refused += 1
            continue
        for cid, block in blocks.items():
            assert cid in (cid_for(block), raw_cid_for(block))
        # Only whole blocks can be lost without a trace; nothing can be made up.
        assert blocks.items() <= read_car(raw).blocks.items()
    return refused


def test_damaged_car_files_are_refused() -> None:
    assert count_damaged(seed=1, count=4_000) > 3_900


@pytest.mark.long
def test_many_damaged_car_files_are_refused() -> None:
    assert count_damaged(seed=2, count=200_000) > 195_000
