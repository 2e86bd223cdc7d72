"""The blocks of a commit: damaged, missing, unneeded or of another form."""

from __future__ import annotations

import random

import pytest
from handmade_commits import (
    LIE,
    Author,
    Body,
    car_of,
    reason_of,
    record,
    resigned,
    verify,
)

from crawler.live.rejections import MissingRecordError, drop_reason
from protocol.data import cbor
from protocol.data.cid import Cid, cid_for
from protocol.errors import MissingBlockError, ProtocolError
from protocol.events.drops import DropReason
from protocol.repo.car import car_block, car_header, read_car


def test_every_flipped_bit_of_the_blocks_is_refused(body: Body) -> None:
    good = verify(body)
    blocks = body["blocks"]
    rng = random.Random(1)
    accepted = 0
    for bit in rng.sample(range(len(blocks) * 8), 1_500):
        flipped = bytearray(blocks)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            event = verify({**body, "blocks": bytes(flipped)})
        except ProtocolError:
            continue
        accepted += 1
        assert event == good
    assert accepted == 0


def test_block_that_is_not_what_its_cid_says_is_refused(body: Body) -> None:
    car = read_car(body["blocks"])
    signed = car.blocks.pop(car.root)
    for cid, raw in car.blocks.items():
        changed = car.blocks | {cid: raw[:-1] + bytes([raw[-1] ^ 1])}
        made = {**body, "blocks": car_of(signed, changed)}
        assert reason_of(made) == DropReason.BAD_CAR


def test_cut_blocks_are_never_a_commit(body: Body) -> None:
    blocks = body["blocks"]
    for end in range(0, len(blocks), 7):
        with pytest.raises(ProtocolError):
            verify({**body, "blocks": blocks[:end]})


def test_unneeded_shuffled_and_double_blocks_do_not_matter(body: Body) -> None:
    good = verify(body)
    car = read_car(body["blocks"])
    signed = car.blocks.pop(car.root)
    extra = cid_for(b"\xf6")
    others = list({**car.blocks, extra: b"\xf6"}.items())
    random.Random(2).shuffle(others)
    root = cid_for(signed)
    pieces = [car_header(root)]
    pieces += [car_block(cid, raw) for cid, raw in [*others, *others]]
    pieces.append(car_block(root, signed))
    assert verify({**body, "blocks": b"".join(pieces)}) == good


def test_node_missing_from_the_proof_is_refused(body: Body) -> None:
    good = verify(body)
    car = read_car(body["blocks"])
    signed = car.blocks.pop(car.root)
    missing = 0
    for cid in car.blocks:
        rest = {other: raw for other, raw in car.blocks.items() if other != cid}
        try:
            # The neighbours of an updated key, for one, come without need.
            assert verify({**body, "blocks": car_of(signed, rest)}) == good
        except MissingBlockError:
            missing += 1
    assert missing > len(car.blocks) // 2


def test_missing_record_is_told_apart(body: Body) -> None:
    car = read_car(body["blocks"])
    signed = car.blocks.pop(car.root)
    del car.blocks[cid_for(record("new"))]
    with pytest.raises(MissingRecordError) as caught:
        verify({**body, "blocks": car_of(signed, car.blocks)})
    assert drop_reason(caught.value) == DropReason.MISSING_RECORD


def test_tree_out_of_bounds_is_counted_as_such() -> None:
    made = Author(0).commit()
    made["ops"] = [{"action": "delete", "path": "x" * 1025, "cid": None, "prev": LIE}]
    assert reason_of(made) == DropReason.TREE_TOO_LARGE


def test_root_that_is_no_node_is_a_bad_tree() -> None:
    author = Author()
    made = author.commit(("test.app.note/a", record()))
    not_a_node = cbor.encode({"e": [], "l": None, "x": 1})
    made = resigned(made, lambda fields: fields.update(data=Cid(cid_for(not_a_node))))
    car = read_car(made["blocks"])
    blocks = car.blocks | {cid_for(not_a_node): not_a_node}
    made["blocks"] = car_of(blocks.pop(car.root), blocks)
    assert reason_of(made) == DropReason.BAD_TREE
