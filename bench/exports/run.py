"""Exports: of everything, of one increment, and five questions to the files.

The floor is the Parquet library with the same columns ready in memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from bench.exports.questions import ask
from bench.fake_accounts import FakeAccounts
from bench.index import Index, import_repos, open_index
from bench.metric import Metric, Progress, median
from bench.stored import fill
from export.exporter import Exporter
from export.layout import COMPRESSION_LEVEL, ROW_GROUP_ROWS, TABLES
from export.manifest import ExportFolder, Part, read_manifest
from service.runtime.garbage_collection import tune_gc
from storage.postgres.pool import connect

BENCH: Final = "export"

_RECORDS: Final = 100_000
_QUICK: Final = 50
"""Divisor of the number of records in a quick run."""
_A_REPO: Final = 1_000
_CHANGES: Final = 5_000
_ROUNDS: Final = 3


def run(quick: bool, progress: Progress, *, stored: int = 0) -> list[Metric]:
    """Measure an export of `stored` records, 100,000 by default, and what follows."""
    tune_gc()
    records = (stored or _RECORDS) // (_QUICK if quick else 1)
    changes = _CHANGES // (_QUICK if quick else 1)
    with (
        tempfile.TemporaryDirectory(prefix="bw-export-") as folder,
        open_index() as index,
    ):
        path = Path(folder, "export")
        fakes = FakeAccounts(max(1, records // _A_REPO), records=min(records, _A_REPO))
        import_repos(index, fakes, progress)
        held = sum(len(member.records) for member in fakes.members)
        index.settle()
        seconds = _export(index, path)
        floor = _write_again(Path(folder), path)
        times = ask(path)
        files = read_manifest(path).parts.values()
        size = sum(part.bytes for part in files)
        before = _increment(index, path, seed=3, changes=changes)
        more = fill(index, 4 * held, progress)
        _export(index, path)
        index.settle()
        after = _increment(index, path, seed=9, changes=changes)
    return [
        Metric(BENCH, "records_per_s", held / seconds, "records/s", held / floor),
        Metric(BENCH, "bytes_per_record", size / held, "B"),
        Metric(BENCH, "increment_s", after, "s", before),
        Metric(BENCH, "slowest_question_s", max(times.values()), "s"),
        Metric(BENCH, "records", held + more.records, "records"),
    ]


def _export(index: Index, path: Path) -> float:
    """Bring an export up to date; return the seconds."""
    with (
        connect(index.url) as conn,
        connect(index.url) as reading,
        ExportFolder(path) as folder,
    ):
        started = time.perf_counter()
        Exporter(folder, conn, reading).run()
        return time.perf_counter() - started


def _increment(index: Index, path: Path, *, seed: int, changes: int) -> float:
    """Return the median seconds of increments with the same number of new records."""
    times = []
    for round_ in range(_ROUNDS):
        fakes = FakeAccounts(1, seed=seed + 100 * round_, records=changes)
        import_repos(index, fakes, _Silence())
        times.append(_export(index, path))
    return median(times)


class _Silence:
    def count(self, what: str, done: int, total: int) -> None:
        return


def _write_again(folder: Path, path: Path) -> float:
    """Return the seconds that the Parquet library needs for the same files."""
    parts: Sequence[Part] = [*read_manifest(path).parts.values()]
    seconds = 0.0
    for part in parts:
        rows: Any = pq.read_table(path / part.path, partitioning=None)
        rows = rows.cast(TABLES[part.table].schema).combine_chunks()
        started = time.perf_counter()
        pq.write_table(
            rows,
            folder / "again.parquet",
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            row_group_size=ROW_GROUP_ROWS,
        )
        seconds += time.perf_counter() - started
    return seconds
