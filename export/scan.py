"""Proof that an export holds what its manifest says, and nothing that was removed.

Every file is read whole and hashed. Every row is compared with the tombstones that are
older than the promised hours. The rest of the folder is searched for files that no
line names.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from export.compaction import Removals, read_removals
from export.json_lines import JSON_LINES, LaterEvents, key_of, read_lines
from export.layout import EVENTS, SCHEMA_VERSION, TABLES, TOMBSTONES
from export.manifest import (
    MANIFEST,
    FolderError,
    Manifest,
    Part,
    file_hash,
    read_manifest,
)
from export.views import EMPTY

_MOST_FAULTS: Final = 100


@dataclass(slots=True)
class ScanResult:
    """Result of a scan. `dead` rows should have been removed by now; `pending` rows
    will be within the promised hours."""

    files: int = 0
    rows: int = 0
    bytes: int = 0
    dead: int = 0
    pending: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not self.faults and not self.dead

    def add_fault(self, fault: str) -> None:
        """Add a fault; only the first hundred are kept."""
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(fault)


def scan_export(
    folder: Path,
    *,
    now: float | None = None,
    count: Callable[[int, int], None] = lambda done, total: None,
) -> ScanResult:
    """Read every file of an export. Raises FolderError if the folder is none."""
    manifest = read_manifest(folder)
    if not manifest.token:
        raise FolderError(f"{folder} is no export of schema version {SCHEMA_VERSION}")
    result = ScanResult()
    lines = manifest.format == JSON_LINES
    removals = Removals.none() if lines else read_removals(folder, manifest, 0)
    files = [part for part in manifest.parts.values() if (folder / part.path).is_file()]
    later = LaterEvents(folder, files) if lines else None
    now = time.time() if now is None else now
    before = now - manifest.promise_hours * 3600
    promised = [seq for seq, moment in manifest.moments if moment < before]
    # Rows with a tombstone up to this number must be gone.
    applied = max([manifest.compacted, *promised])
    parts = sorted(manifest.parts.values(), key=lambda part: part.path)
    for done, part in enumerate(parts, 1):
        if _check_file(folder, part, result):
            if later is not None:
                _scan_lines(folder, part, later, applied, result)
            else:
                _scan_rows(folder, part, removals, applied, result)
        count(done, len(parts))
    _find_strays(folder, manifest, result)
    return result


def _check_file(folder: Path, part: Part, result: ScanResult) -> bool:
    path = folder / part.path
    if not path.is_file():
        result.add_fault(f"{part.path} is missing")
        return False
    result.files += 1
    result.bytes += part.bytes
    if file_hash(path) != part.sha256:
        result.add_fault(f"{part.path} differs from its hash")
        return False
    return True


def _scan_lines(
    folder: Path, part: Part, later: LaterEvents, applied: int, result: ScanResult
) -> None:
    rows = 0
    for line in read_lines(folder / part.path):
        rows += 1
        limit = later.limit(key_of(line)[0])
        if limit > part.last:
            result.dead += limit <= applied
            result.pending += limit > applied
    _count_rows(part, rows, result)


def _scan_rows(
    folder: Path, part: Part, removals: Removals, applied: int, result: ScanResult
) -> None:
    table = TABLES[part.table]
    rows = 0
    with pq.ParquetFile(folder / part.path) as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            rows += len(group)
            if table is not TOMBSTONES:
                limits = removals.limits(table, group)
                dead = limits > group["seq"].to_numpy()
                late = dead & (limits <= applied)
                result.dead += int(late.sum())
                result.pending += int(dead.sum() - late.sum())
    _count_rows(part, rows, result)


def _count_rows(part: Part, rows: int, result: ScanResult) -> None:
    result.rows += rows
    if rows != part.rows:
        result.add_fault(f"{part.path} has {rows} rows, not {part.rows}")


def _find_strays(folder: Path, manifest: Manifest, result: ScanResult) -> None:
    for table in (EVENTS, *TABLES):
        for path in sorted((folder / table).rglob("*")):
            name = path.relative_to(folder).as_posix()
            known = path.name == EMPTY or name in manifest.parts
            if path.is_file() and not known:
                result.add_fault(f"{name} is not in {MANIFEST}")
