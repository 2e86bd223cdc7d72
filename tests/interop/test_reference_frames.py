"""The recorded firehose and a repo of the reference PDS."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from bench.recorded import read_recorded, unpack
from crawler.live.verify import verify_commit, verify_sync
from protocol.errors import ProtocolError
from protocol.events.frames import decode_frame
from protocol.identity.keys import PublicKey, parse_did_key
from protocol.mst import EMPTY_ROOT, build_root
from protocol.repo.repo_export import export_repo
from protocol.repo.whole_repo import RepoReader, RepoRecord
from protocol.syntax import Did

# Later than any of the recorded revisions.
NOW_US = 4_000_000_000_000_000


@pytest.mark.parametrize(
    ("curve", "frames", "commits", "operations"),
    [
        ("k256", 3_000, 2_866, 2_855),
        ("p256", 1_000, 880, 848),
        pytest.param("k256", None, 11_866, 20_810, marks=pytest.mark.long),
        pytest.param("p256", None, 2_866, 2_855, marks=pytest.mark.long),
    ],
)
def test_reference_frames_verify_and_follow_each_other(
    reference: Path, curve: str, frames: int | None, commits: int, operations: int
) -> None:
    recorded = read_recorded(reference, curve)
    data: dict[str, bytes] = {}
    records: dict[str, dict[bytes, bytes]] = {}
    seen = done = last_seq = 0
    for raw in recorded.frames[:frames]:
        frame = decode_frame(raw)
        assert frame.body["seq"] > last_seq
        last_seq = frame.body["seq"]
        if frame.t == "#sync":
            did = frame.body["did"]
            assert verify_sync(frame.body, recorded.keys[did], NOW_US).data == data[did]
        if frame.t != "#commit":
            continue
        event = verify_commit(frame.body, recorded.keys[frame.body["repo"]], NOW_US)
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


def test_changed_reference_frames_are_refused(reference: Path) -> None:
    recorded = read_recorded(reference, "k256")
    rng = random.Random(7)
    tried = refused = 0
    for number, raw in enumerate(recorded.frames):
        frame = decode_frame(raw)
        if frame.t != "#commit" or number % 60 or len(raw) > 20_000:
            continue
        body = frame.body
        key = recorded.keys[body["repo"]]
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
    assert tried > 600
    assert refused == tried


def test_reference_repo_survives_a_round_trip(reference: Path) -> None:
    did, did_key = (reference / "repo-21791.txt").read_text().split()
    key = parse_did_key(did_key)
    car = unpack(reference / "repo-21791.car.zst")
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
