"""Import of whole repos: from the bytes of a CAR to verified records, on one core.

Each repo is read in its own process, so that its memory can be measured. The floor is
hashing the same blocks once.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from bench.fake_accounts import made_repo
from bench.metric import Metric, Progress, median
from protocol.data import cbor
from protocol.identity.keys import parse_did_key
from protocol.repo.car import CarReader, car_block, car_header
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did
from service.runtime.garbage_collection import tune_gc

BENCH: Final = "import"

_RECORDS: Final = 200_000
_SHUFFLED_RECORDS: Final = 20_000
_QUICK: Final = 100
"""Divisor of all sizes in a quick run."""
_ROUNDS: Final = 3
_PIECE: Final = 65_536
_MIB: Final = 1024**2


@dataclass(frozen=True, slots=True)
class _Task:
    path: Path
    did: Did
    did_key: str
    decode: bool
    rounds: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Records per second and core, also of bare hashing, and the memory in bytes."""

    records: int
    rate: float
    hash_rate: float
    grown: int


def run(quick: bool, progress: Progress) -> list[Metric]:
    """Measure records per second and core, and the peak memory."""
    part = _QUICK if quick else 1
    rounds = 1 if quick else _ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "repo.car")
        member, car = made_repo(_RECORDS // part)
        with path.open("wb") as file:
            for piece in car:
                file.write(piece)
        progress.count("repos", 1, 2)
        key = member.key.public.did_key
        plain = _in_a_process(_Task(path, member.did, key, False, rounds))
        decoded = _in_a_process(_Task(path, member.did, key, True, rounds))

        shuffled_path = Path(folder, "shuffled.car")
        member, car = made_repo(_SHUFFLED_RECORDS // part, seed=2)
        shuffled_path.write_bytes(_shuffled(b"".join(car)))
        key = member.key.public.did_key
        progress.count("repos", 2, 2)
        shuffled = _in_a_process(_Task(shuffled_path, member.did, key, False, rounds))
    return [
        Metric(
            BENCH, "records_per_s_per_core", plain.rate, "records/s", plain.hash_rate
        ),
        Metric(BENCH, "peak_mib", plain.grown / _MIB, "MiB"),
        Metric(
            BENCH,
            "decoded_records_per_s_per_core",
            decoded.rate,
            "records/s",
            decoded.hash_rate,
        ),
        Metric(
            BENCH,
            "shuffled_records_per_s_per_core",
            shuffled.rate,
            "records/s",
            shuffled.hash_rate,
        ),
        Metric(BENCH, "shuffled_peak_mib", shuffled.grown / _MIB, "MiB"),
        Metric(BENCH, "records", plain.records, "records"),
    ]


def _in_a_process(task: _Task) -> _Outcome:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (task,))


def _measure(task: _Task) -> _Outcome:
    # As in the crawling processes.
    tune_gc()
    # Memory first: later rounds would reuse the memory of earlier ones.
    before = _peak_bytes()
    records = _read(task)
    grown = _peak_bytes() - before
    rates, hash_rates = [], []
    for _ in range(task.rounds):
        started = time.process_time()
        _read(task)
        rates.append(records / (time.process_time() - started))
        blocks = list(_blocks(task.path))
        started = time.process_time()
        for block in blocks:
            sha256(block).digest()
        hash_rates.append(records / (time.process_time() - started))
    return _Outcome(records, median(rates), median(hash_rates), grown)


def _read(task: _Task) -> int:
    """Read and verify a repo; decode its records if the task says so."""
    reader = RepoReader(parse_did_key(task.did_key), task.did, time.time_ns() // 1_000)
    count = 0
    with task.path.open("rb") as file:
        while piece := file.read(_PIECE):
            found = reader.feed(piece)
            count += len(found)
            if task.decode:
                for record in found:
                    cbor.decode_fast(record.value)
    # Figures of a run that lost records are void.
    assert reader.finish().records == count
    return count


def _blocks(path: Path) -> Iterator[bytes]:
    reader = CarReader()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            for _, block in reader.feed(piece):
                yield block


def _shuffled(car: bytes) -> bytes:
    """Return the same repo with its blocks in random order."""
    reader = CarReader()
    blocks = reader.feed(car)
    random.Random(1).shuffle(blocks)
    return car_header(reader.root) + b"".join(car_block(*block) for block in blocks)


def _peak_bytes() -> int:
    """Return the peak memory of this process (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM: the peak memory is unknown")
