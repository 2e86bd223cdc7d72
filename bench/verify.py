"""Verification of commits: from a frame's bytes to an event, on one core.

Each round takes the same frames in slices of the crawler's size. A slice is verified;
right after it, only its signatures are checked: the floor under equal conditions. The
stages are timed on the same slices. Each slice is read into the caches first, as after
a read from a socket.

Recorded frames of a reference server are verified too, if there are any.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from zlib import crc32

from bench.fake_accounts import FakeAccounts
from bench.metric import Metric, Progress, median
from bench.recorded import CURVES, read_recorded, recorded_folder
from crawler.live.gate_frame import COMMIT
from crawler.live.verify import verify_commits
from protocol.data import cbor
from protocol.events.event import CommitEvent
from protocol.events.frames import decode_frame
from protocol.identity.keys import PublicKey
from protocol.mst import TreeOp, invert
from protocol.repo.car import read_car
from protocol.repo.commit import Commit, parse_commit, verify_commit_signature
from protocol.syntax import Did
from service.runtime.garbage_collection import tune_gc

BENCH: Final = "verify"

_T = TypeVar("_T")

_ACCOUNTS: Final = 40
_RECORDS: Final = 4_000
_FRAMES: Final = 6_000
_SLICE: Final = 220
"""Frames of the MiB that the crawler verifies together."""
_ROUNDS: Final = 5
_QUICK: Final = 20
"""Divisor of all sizes in a quick run."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """A frame, and the input of each stage."""

    raw: bytes
    key: PublicKey
    body: dict[str, Any]
    blocks: dict[bytes, bytes]
    signed: bytes
    commit: Commit
    ops: tuple[TreeOp, ...]
    records: tuple[bytes, ...]


def run(quick: bool, progress: Progress) -> list[Metric]:
    """Measure verified commits per second and core, and the time of each stage."""
    part = _QUICK if quick else 1
    fakes = FakeAccounts(max(2, _ACCOUNTS // part), records=_RECORDS // part)
    frames = _FRAMES // part
    samples = []
    for raw in fakes.frames(frames, others=False):
        samples.append(_sample(raw, fakes.keys))
        progress.count("frames", len(samples), frames)
    rounds = 1 if quick else _ROUNDS
    # As in the crawler, with the fake accounts as loaded data.
    thresholds = gc.get_threshold()
    tune_gc()
    seconds = _time_rounds(samples, rounds, progress, _STAGES)
    gc.unfreeze()
    gc.set_threshold(*thresholds)

    metrics = [
        _rate_metric("commits_per_s_per_core", frames, seconds),
        *(
            Metric(BENCH, f"{stage}_us", _microseconds(frames, seconds, stage), "us")
            for stage in (_WHOLE, *_STAGES)
        ),
    ]
    parts = [sum(taken[stage] for stage in _STAGES) for taken in seconds]
    rest = median(
        [taken[_WHOLE] - known for taken, known in zip(seconds, parts, strict=True)]
    )
    metrics.append(Metric(BENCH, "rest_us", rest / frames * 1e6, "us"))
    metrics += _describe("", samples)
    folder = recorded_folder()
    if folder is not None:
        for curve in CURVES:
            metrics += _prove_recorded(folder, curve, part, rounds, progress)
    return metrics


def _prove_recorded(
    folder: Path, curve: str, part: int, rounds: int, progress: Progress
) -> list[Metric]:
    """Measure the verification of recorded frames."""
    recorded = read_recorded(folder, curve)
    commits = [raw for raw in recorded.frames if decode_frame(raw).t == COMMIT]
    samples = [_sample(raw, recorded.keys) for raw in commits[: len(commits) // part]]
    signature = {_SIGNATURE: _STAGES[_SIGNATURE]}
    seconds = _time_rounds(samples, rounds, progress, signature)
    name = f"recorded_{curve}_"
    rate = _rate_metric(f"{name}commits_per_s_per_core", len(samples), seconds)
    return [rate, *_describe(name, samples)]


def _time_rounds(
    samples: Sequence[_Sample],
    rounds: int,
    progress: Progress,
    stages: Mapping[str, Callable[[_Sample], object]],
) -> list[dict[str, float]]:
    """Return the CPU seconds of each round, in total and by stage."""
    slices = [
        samples[start : start + _SLICE] for start in range(0, len(samples), _SLICE)
    ]
    seconds: list[dict[str, float]] = []
    for number in range(rounds):
        taken = dict.fromkeys((_WHOLE, *stages), 0.0)
        for one in slices:
            for sample in one:
                crc32(sample.raw)
            taken[_WHOLE] += _time(_prove, [one])
            for stage, work in stages.items():
                taken[stage] += _time(work, one)
        seconds.append(taken)
        progress.count("rounds", number + 1, rounds)
    return seconds


def _rate_metric(
    name: str, frames: int, seconds: Sequence[Mapping[str, float]]
) -> Metric:
    """Return frames per second, with bare signature checks as the floor."""
    rate, floor = (
        1e6 / _microseconds(frames, seconds, stage) for stage in (_WHOLE, _SIGNATURE)
    )
    return Metric(BENCH, name, rate, "commits/s", floor)


def _microseconds(
    frames: int, seconds: Sequence[Mapping[str, float]], stage: str
) -> float:
    """Return the microseconds of a frame in the median round."""
    return median([taken[stage] for taken in seconds]) / frames * 1e6


def _describe(name: str, samples: Sequence[_Sample]) -> list[Metric]:
    """Return the average size of the frames."""
    ops = sum(len(sample.ops) for sample in samples) / len(samples)
    size = sum(len(sample.raw) for sample in samples) / len(samples)
    return [
        Metric(BENCH, f"{name}operations_per_commit", ops, "operations"),
        Metric(BENCH, f"{name}bytes_per_frame", size, "bytes"),
    ]


def _sample(raw: bytes, keys: Mapping[Did, PublicKey]) -> _Sample:
    body = decode_frame(raw).body
    car = read_car(body["blocks"])
    ops = tuple(
        TreeOp(op["path"].encode(), op["cid"], op.get("prev")) for op in body["ops"]
    )
    signed = car.blocks[car.root]
    return _Sample(
        raw,
        keys[body["repo"]],
        body,
        car.blocks,
        signed,
        parse_commit(signed),
        ops,
        tuple(car.blocks[op.cid] for op in ops if op.cid is not None),
    )


def _time(work: Callable[[_T], object], items: Sequence[_T]) -> float:
    started = time.process_time()
    for item in items:
        work(item)
    return time.process_time() - started


def _prove(samples: Sequence[_Sample]) -> None:
    """Verify samples as a group, as the crawler does."""
    results = verify_commits(
        [(decode_frame(sample.raw).body, sample.key, 0) for sample in samples],
        time.time_ns() // 1_000,
    )
    for sample, result in zip(samples, results, strict=True):
        # Every commit is valid: any other result is a bug.
        assert type(result) is CommitEvent
        assert len(result.ops) == len(sample.ops)


def _decode_records(sample: _Sample) -> None:
    for record in sample.records:
        cbor.decode_fast(record)


_WHOLE: Final = "commit"
_SIGNATURE: Final = "signature"
_STAGES: Final[dict[str, Callable[[_Sample], object]]] = {
    _SIGNATURE: lambda sample: verify_commit_signature(
        sample.signed, sample.key, sample.commit
    ),
    "frame": lambda sample: decode_frame(sample.raw),
    "blocks": lambda sample: read_car(sample.body["blocks"]),
    "commit_block": lambda sample: parse_commit(sample.signed),
    "tree": lambda sample: invert(
        sample.blocks, sample.commit.data, sample.ops, sample.body["prevData"]
    ),
    "records": _decode_records,
}
