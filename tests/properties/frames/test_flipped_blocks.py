"""One flipped bit in each of ten thousand blocks: all are refused by every reader.

Blocks of all kinds, read as a whole file, in pieces, as a repo, and in messages. No
key is given, so that only the hash can tell.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from bench.fake_accounts import START_US, FakeAccounts
from crawler.live.rejections import RejectedError
from crawler.live.verify import verify_commit, verify_sync
from protocol.data import cbor
from protocol.data.cid import cid_for, raw_cid_for
from protocol.errors import InvalidEncodingError, ProtocolError
from protocol.events.drops import DropReason
from protocol.events.frames import decode_frame
from protocol.identity.keys import PrivateKey
from protocol.mst import build_nodes
from protocol.repo.car import CarReader, car_block, car_header, read_car
from protocol.repo.commit import sign_commit
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did, tid_from_int

DID = Did("did:plc:" + "f" * 24)
KEY = PrivateKey("k256", b"\x06" * 32)
NOW_US = 4_000_000_000_000_000
KINDS = ("commit", "node", "record", "blob")

Block = tuple[str, bytes, bytes]
"""(kind, CID, bytes)."""


def flip(rng: random.Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def make_blocks(rng: random.Random) -> list[Block]:
    """Return at least ten thousand blocks of every kind."""
    found: list[Block] = []
    items: list[tuple[bytes, bytes]] = []
    for number in range(5_500):
        record = cbor.encode(
            {"$type": "test.app.note", "n": number, "x": rng.randbytes(number % 90)}
        )
        found.append(("record", cid_for(record), record))
        items.append((b"test.app.note/%05d" % number, cid_for(record)))
    for start in range(0, 11_000, 500):
        part = items[start % 5_500 : start % 5_500 + 400 + start // 100]
        found += [("node", node.cid, node.raw) for node in build_nodes(part)]
    root = next(cid for kind, cid, _ in reversed(found) if kind == "node")
    for number in range(1_200):
        commit = sign_commit(DID, root, tid_from_int(START_US + number << 10), KEY)
        found.append(("commit", cid_for(commit), commit))
    for _ in range(1_200):
        blob = rng.randbytes(rng.randrange(1, 400))
        found.append(("blob", raw_cid_for(blob), blob))
    return found


def test_flipped_blocks_are_all_refused() -> None:
    rng = random.Random(29)
    first = b"\xa0"
    start = car_header(cid_for(first)) + car_block(cid_for(first), first)
    whole: Counter[str] = Counter()
    in_pieces: Counter[str] = Counter()
    blocks = make_blocks(rng)
    for kind, cid, block in blocks:
        raw = start + car_block(cid, flip(rng, block))
        try:
            read_car(raw)
        except InvalidEncodingError:
            whole[kind] += 1
        reader = CarReader()
        reader.feed(raw[:100])
        try:
            reader.feed(raw[100:])
        except InvalidEncodingError:
            in_pieces[kind] += 1
    made = Counter(kind for kind, _, _ in blocks)
    assert whole == made
    assert in_pieces == made
    assert made.total() >= 10_000
    assert min(made[kind] for kind in KINDS) >= 1_000


def test_flipped_bit_of_a_cid_is_refused() -> None:
    rng = random.Random(30)
    first = b"\xa0"
    start = car_header(cid_for(first)) + car_block(cid_for(first), first)
    refused = 0
    for _, cid, block in rng.sample(make_blocks(rng), 2_000):
        raw = start + car_block(flip(rng, cid), block)
        try:
            read_car(raw)
        except ProtocolError:
            refused += 1
    assert refused == 2_000


def read_repo(pieces: list[bytes], did: Did) -> int:
    reader = RepoReader(None, did, NOW_US)
    count = sum(len(reader.feed(piece)) for piece in pieces)
    reader.finish()
    return count


def test_flipped_block_of_a_repo_is_refused() -> None:
    rng = random.Random(31)
    member = FakeAccounts(0, seed=29).add(250)
    car = b"".join(FakeAccounts(0).car(member))
    blocks = read_car(car).blocks
    head = car_header(cid_for(member.commit))
    pieces = [head, *(car_block(cid, block) for cid, block in blocks.items())]
    assert read_repo(pieces, member.did) == 250
    refused = 0
    for index, (cid, block) in enumerate(blocks.items(), start=1):
        broken = [*pieces]
        broken[index] = car_block(cid, flip(rng, block))
        try:
            read_repo(broken, member.did)
        except ProtocolError:
            refused += 1
    assert refused == len(blocks) > 300


def with_broken_block(
    rng: random.Random, body: dict[str, Any], cid: bytes
) -> dict[str, Any]:
    car = read_car(body["blocks"])
    raw = car_header(car.root)
    for other, block in car.blocks.items():
        raw += car_block(other, flip(rng, block) if other == cid else block)
    return {**body, "blocks": raw}


def test_flipped_block_of_a_message_is_refused() -> None:
    rng = random.Random(32)
    society = FakeAccounts(5, seed=32, records=80, p256_share=0.4)
    keys = society.keys
    tried: Counter[str] = Counter()
    for raw in society.frames(120):
        t, body = decode_frame(raw)[1:]
        if t not in ("#commit", "#sync"):
            continue
        did = body["repo" if t == "#commit" else "did"]
        verify = verify_commit if t == "#commit" else verify_sync
        verify(body, keys[did], START_US * 2)
        for cid in read_car(body["blocks"]).blocks:
            broken = with_broken_block(rng, body, cid)
            with pytest.raises(RejectedError) as caught:
                verify(broken, keys[did], START_US * 2)
            # Refused for the right reason.
            assert caught.value.reason is DropReason.BAD_CAR
            tried[t] += 1
    assert tried["#commit"] > 400
