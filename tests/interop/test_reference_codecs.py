"""The codecs on 12,000 frames and a whole repo of the reference PDS."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.recorded import read_recorded, unpack
from protocol.data import cbor, cbor_strict
from protocol.data.cid import Cid, cid_for
from protocol.events.frames import decode_frame, encode_frame, peek_frame
from protocol.lexicon import Catalog
from protocol.repo.car import CarReader, car_block, car_header, read_car


def test_frames(reference: Path) -> None:
    kinds: Counter[str | None] = Counter()
    seq = 0
    for raw in read_recorded(reference, "k256").frames:
        frame = decode_frame(raw)
        kinds[frame.t] += 1
        account, number = peek_frame(raw)
        assert account == frame.body.get("repo", frame.body.get("did"))
        assert number is not None
        assert number > seq
        seq = number
        if kinds.total() % 20 == 0:
            header_size = len(cbor.encode({"op": 1, "t": frame.t}))
            body = cbor_strict.decode(raw[header_size:], max_depth=64)
            assert frame.t is not None
            assert encode_frame(frame.t, body) == raw
    assert kinds.total() == 12_000
    assert set(kinds) == {"#commit", "#sync", "#account", "#identity"}


def test_blocks_of_commits(reference: Path) -> None:
    blocks: set[bytes] = set()
    for number, raw in enumerate(read_recorded(reference, "k256").frames):
        body = decode_frame(raw).body
        if number % 10 == 0 and "blocks" in body:
            car = read_car(body["blocks"])
            assert car.root == body.get("commit", car.root)
            blocks.update(car.blocks.values())
    assert len(blocks) > 2_000
    for block in blocks:
        value = cbor.decode(block)
        assert value == cbor_strict.decode(block)
        assert cbor.encode(value) == block
        cbor.check(block)


def test_whole_repo(reference: Path) -> None:
    raw = unpack(reference / "repo-21791.car.zst")
    reader = CarReader()
    catalog = Catalog.load()
    kinds: Counter[str] = Counter()
    again = bytearray()
    for start in range(0, len(raw), 65_536):
        for cid, block in reader.feed(raw[start : start + 65_536]):
            assert cid == cid_for(block)
            again += car_block(cid, block)
            value = cbor.decode(block)
            assert not isinstance(value, Cid)
            if "$type" in value:
                kinds[value["$type"]] += 1
                catalog.validate_record(value["$type"], value)
    reader.close()
    assert car_header(reader.root) + again == raw
    assert kinds.total() > 12_000
