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
from export.layout import DATA_TABLES, SCHEMA_VERSION, TABLES, TOMBSTONES
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
    removals = read_removals(folder, manifest, 0)
    now = time.time() if now is None else now
    before = now - manifest.promise_hours * 3600
    promised = [seq for seq, moment in manifest.moments if moment < before]
    # Rows with a tombstone up to this number must be gone.
    applied = max([manifest.compacted, *promised])
    parts = sorted(manifest.parts.values(), key=lambda part: part.path)
    for done, part in enumerate(parts, 1):
        _scan_part(folder, part, removals, applied, result)
        count(done, len(parts))
    _find_strays(folder, manifest, result)
    return result


def _scan_part(
    folder: Path,
    part: Part,
    removals: Removals,
    applied: int,
    result: ScanResult,
) -> None:
    path = folder / part.path
    if not path.is_file():
        result.add_fault(f"{part.path} is missing")
        return
    result.files += 1
    result.bytes += part.bytes
    if file_hash(path) != part.sha256:
        result.add_fault(f"{part.path} differs from its hash")
        return
    table = TABLES[part.table]
    rows = 0
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            rows += len(group)
            if table is not TOMBSTONES:
                limits = removals.limits(table, group)
                dead = limits > group["seq"].to_numpy()
                late = dead & (limits <= applied)
                result.dead += int(late.sum())
                result.pending += int(dead.sum() - late.sum())
    result.rows += rows
    if rows != part.rows:
        result.add_fault(f"{part.path} has {rows} rows, not {part.rows}")


def _find_strays(folder: Path, manifest: Manifest, result: ScanResult) -> None:
    for table in (*DATA_TABLES, TOMBSTONES):
        for path in sorted((folder / table.name).rglob("*")):
            name = path.relative_to(folder).as_posix()
            known = path.name == EMPTY or name in manifest.parts
            if path.is_file() and not known:
                result.add_fault(f"{name} is not in {MANIFEST}")
