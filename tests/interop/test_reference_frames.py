"""What the reference PDS wrote: its firehose from the first event on, and a repo."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from crawler.verify import verify_commit, verify_sync
from protocol.errors import ProtocolError
from protocol.frames import decode_frame
from protocol.keys import PublicKey, parse_did_key
from protocol.mst import EMPTY_ROOT, build_root
from protocol.repo import RepoReader, RepoRecord, export_repo
from protocol.syntax import Did

REFERENCE = os.environ.get("ATPROTO_REFERENCE")
pytestmark = pytest.mark.skipif(not REFERENCE, reason="ATPROTO_REFERENCE is not set")

# Later than any of the recorded revisions.
NOW_US = 4_000_000_000_000_000


def read_file(name: str) -> bytes:
    raw = (Path(REFERENCE or "") / name).read_bytes()
    if name.endswith(".zst"):
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read()
    return raw


def frames(name: str) -> Iterator[bytes]:
    data = read_file(name)
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 4 + size]
        position += 4 + size


def keys(name: str) -> dict[str, PublicKey]:
    return {did: parse_did_key(key) for did, key in json.loads(read_file(name)).items()}


@pytest.mark.parametrize(
    ("curve", "commits", "operations"),
    [("k256", 11_866, 20_810), ("p256", 2_866, 2_855)],
)
def test_every_frame_is_verified_and_follows_from_the_one_before(
    curve: str, commits: int, operations: int
) -> None:
    signing = keys(f"keys-{curve}.json")
    data: dict[str, bytes] = {}
    records: dict[str, dict[bytes, bytes]] = {}
    seen = done = last_seq = 0
    for raw in frames(f"frames-{curve}.bin.zst"):
        frame = decode_frame(raw)
        assert frame.body["seq"] > last_seq
        last_seq = frame.body["seq"]
        if frame.t == "#sync":
            did = frame.body["did"]
            assert verify_sync(frame.body, signing[did], NOW_US).data == data[did]
        if frame.t != "#commit":
            continue
        event = verify_commit(frame.body, signing[frame.body["repo"]], NOW_US)
        assert event.prev_data == data.get(event.did, EMPTY_ROOT)
        assert not event.drops
        data[event.did] = event.data
        held = records.setdefault(event.did, {})
        for op in event.ops:
            path = f"{op.collection}/{op.rkey}".encode()
            if op.cid is None:
                del held[path]
            else:
                held[path] = op.cid
        seen += 1
        done += len(event.ops)
    assert (seen, done) == (commits, operations)
    for did, held in records.items():
        assert build_root(sorted(held.items())) == data[did]


def test_no_mutant_is_believed() -> None:
    signing = keys("keys-k256.json")
    rng = random.Random(7)
    tried = refused = 0
    for number, raw in enumerate(frames("frames-k256.bin.zst")):
        frame = decode_frame(raw)
        if frame.t != "#commit" or number % 12 or len(raw) > 20_000:
            continue
        body = frame.body
        key = signing[body["repo"]]
        good = verify_commit(body, key, NOW_US)
        blocks = body["blocks"]
        mutant: dict[str, Any] = dict(body)
        mutant["blocks"] = bytearray(blocks)
        mutant["blocks"][rng.randrange(len(blocks))] ^= 1 << rng.randrange(8)
        mutant["blocks"] = bytes(mutant["blocks"])
        mutants = [mutant]
        if body["ops"]:
            ops = [dict(op) for op in body["ops"]]
            rng.choice(ops)["path"] += "x"
            mutants += [{**body, "ops": ops}, {**body, "ops": ops[1:]}]
        mutants.append({**body, "prevData": good.data[:-1] + b"\x00"})
        for lie in mutants:
            tried += 1
            try:
                verify_commit(lie, key, NOW_US)
            except ProtocolError:
                refused += 1
    assert tried > 3_000
    assert refused == tried


def test_whole_repo_is_read_and_written_again() -> None:
    did, did_key = read_file("repo-21791.txt").decode().split()
    key = parse_did_key(did_key)
    car = read_file("repo-21791.car.zst")
    records, data, commit = read_repo(car, key, did)
    assert len(records) == 21_791
    # One block may stand under several keys.
    assert len({record.cid for record in records}) < len(records)
    items = sorted(
        (f"{record.collection}/{record.rkey}".encode(), record.cid, record.value)
        for record in records
    )
    assert build_root((path, cid) for path, cid, _ in items) == data
    again = b"".join(export_repo(commit, lambda: items))
    assert sorted(read_repo(again, key, did)[0]) == sorted(records)
    with pytest.raises(ProtocolError):
        read_repo(car[:-1], key, did)


def read_repo(
    car: bytes, key: PublicKey, did: str
) -> tuple[list[RepoRecord], bytes, bytes]:
    reader = RepoReader(key, Did(did), NOW_US)
    records: list[RepoRecord] = []
    for start in range(0, len(car), 65_536):
        records += reader.feed(car[start : start + 65_536])
    head = reader.finish()
    assert head.records == len(records)
    return records, head.data, head.commit
