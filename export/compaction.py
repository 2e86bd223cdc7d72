"""Physical removal of rows that tombstones or newer rows replace.

Files that hold such rows are written anew without them. The line of the manifest names
the new files and those that they replace, which are then deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from export.json_lines import JSON_LINES, LaterEvents, rewrite_lines
from export.layout import DATA_TABLES, LATEST_ONLY, TABLES, TOMBSTONES, Table
from export.manifest import ExportFolder, Manifest, Part, part_lines
from export.part_files import PartFile

_ADDRESS: Final = ("did", "nsid", "rkey")


class Removals:
    """Tombstones, for lookups by row."""

    def __init__(self, rows: Any) -> None:
        whole = pc.is_null(rows["nsid"])
        self._accounts = _latest(rows.filter(whole), ("did",))
        self._records = _latest(rows.filter(pc.invert(whole)), _ADDRESS)

    @classmethod
    def none(cls) -> Self:
        """Return no tombstones."""
        return cls(TOMBSTONES.schema.empty_table())

    def __len__(self) -> int:
        return len(self._accounts) + len(self._records)

    def limits(self, table: Table, rows: Any) -> Any:
        """Return the last tombstone of each row, 0 for none: lower rows are dead.

        `rows` has the columns did, nsid and rkey, as far as `table` has them.
        """
        limits = _last_seqs(rows, self._accounts, ("did",))
        if "nsid" in table.schema.names:
            more = _last_seqs(rows, self._records, _ADDRESS)
            limits = np.maximum(limits, more)
        return limits


def _latest(rows: Any, key: tuple[str, ...]) -> Any:
    return rows.group_by(list(key)).aggregate([("seq", "max")])


def _last_seqs(rows: Any, seqs: Any, key: tuple[str, ...]) -> Any:
    """Return for each row the `seq_max` of its key, 0 if there is none."""
    found = np.zeros(len(rows), np.int64)
    if not len(seqs):
        return found
    places = pa.array(np.arange(len(rows), dtype=np.int64))
    mine = rows.select(list(key)).append_column("place", places)
    # Most rows have none: a join only of those whose first column occurs.
    some = pc.unique(seqs[key[0]])
    mine = mine.filter(pc.is_in(mine[key[0]], value_set=some))
    if len(mine):
        joined = mine.join(seqs, list(key), join_type="inner")
        found[joined["place"].to_numpy()] = joined["seq_max"].to_numpy()
    return found


@dataclass(frozen=True, slots=True)
class Compaction:
    """Result: rows removed, and files written anew."""

    rows: int
    files: int


def compact(
    folder: ExportFolder, count: Callable[[int, int], None] = lambda done, total: None
) -> Compaction:
    """Remove dead rows from all files; `count` gets the files done and their number."""
    manifest = folder.manifest
    applied = manifest.last
    if manifest.format == JSON_LINES:
        return _compact_lines(folder, count)
    removals = read_removals(folder.path, manifest, manifest.compacted)
    old = [part for part in manifest.parts.values() if part.table != TOMBSTONES.name]
    newest = {
        table.name: _newest_seqs(folder.path, old, table)
        for table in DATA_TABLES
        if table.name in LATEST_ONLY
    }
    replaced: list[Part] = []
    written: list[Part] = []
    removed = 0
    for done, part in enumerate(old, 1):
        table = TABLES[part.table]
        kept = _kept_places(folder.path, part, table, removals, newest)
        if kept is not None:
            replaced.append(part)
            removed += part.rows - int(kept.sum())
            if kept.any():
                written.append(_rewrite(folder, part, table, kept, applied))
        count(done, len(old))
    _list_files(folder, replaced, written)
    return Compaction(removed, len(replaced))


def _list_files(
    folder: ExportFolder, replaced: list[Part], written: list[Part]
) -> None:
    folder.append(
        {
            "kind": "compaction",
            "time": time.time(),
            "applied": folder.manifest.last,
            "replaces": [part.path for part in replaced],
            "files": part_lines(written),
        }
    )
    folder.remove_strays()


def _compact_lines(
    folder: ExportFolder, count: Callable[[int, int], None]
) -> Compaction:
    manifest = folder.manifest
    old = [*manifest.parts.values()]
    new = [part for part in old if part.last > manifest.compacted]
    later = LaterEvents(folder.path, new)
    replaced: list[Part] = []
    written: list[Part] = []
    removed = 0
    for done, part in enumerate(old, 1):
        kept, gone = rewrite_lines(folder, part, later, manifest.last)
        if kept is not part:
            replaced.append(part)
            written += [kept] if kept is not None else []
            removed += gone
        count(done, len(old))
    _list_files(folder, replaced, written)
    return Compaction(removed, len(replaced))


def read_removals(folder: Path, manifest: Manifest, after: int) -> Removals:
    """Return the tombstones of increments after a number."""
    rows = [
        _read(folder, part, list(TOMBSTONES.schema.names))
        for part in manifest.parts.values()
        if part.table == TOMBSTONES.name and part.last > after
    ]
    return Removals(pa.concat_tables([TOMBSTONES.schema.empty_table(), *rows]))


def _newest_seqs(folder: Path, parts: list[Part], table: Table) -> Any:
    """Return the last `seq` of each key that occurs more than once."""
    found = table.schema.empty_table().select(["seq", *table.key])
    for part in parts:
        if part.table == table.name:
            rows = _read(folder, part, ["seq", *table.key])
            found = pa.concat_tables([found, rows])
    grouped = found.group_by(list(table.key)).aggregate(
        [("seq", "max"), ("seq", "count")]
    )
    return grouped.filter(pc.greater(grouped["seq_count"], 1)).drop_columns("seq_count")


def _kept_places(
    folder: Path, part: Part, table: Table, removals: Removals, newest: dict[str, Any]
) -> Any:
    """Return a mask of the rows to keep; None if all are."""
    latest = newest.get(table.name)
    if not len(removals) and not (latest is not None and len(latest)):
        return None
    names = dict.fromkeys(("seq", "did", *table.key))
    if "nsid" in table.schema.names:
        names.update(dict.fromkeys(_ADDRESS))
    rows = _read(folder, part, list(names))
    limits = removals.limits(table, rows)
    if latest is not None:
        limits = np.maximum(limits, _last_seqs(rows, latest, table.key))
    dead = limits > rows["seq"].to_numpy()
    return ~dead if dead.any() else None


def _rewrite(
    folder: ExportFolder, part: Part, table: Table, kept: Any, applied: int
) -> Part:
    """Write a part again with these rows only."""
    stem = part.path.removesuffix(".parquet").partition("_")[0]
    file = PartFile(folder, table, f"{stem}_{applied}.parquet")
    start = 0
    for rows in _groups(folder.path, part):
        mask = kept[start : start + len(rows)]
        start += len(rows)
        if mask.any():
            file.write(rows.filter(pa.array(mask)))
    return file.commit(part.first, part.last)


def _groups(folder: Path, part: Part) -> Iterator[Any]:
    with pq.ParquetFile(folder / part.path) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def _read(folder: Path, part: Part, columns: list[str]) -> Any:
    with pq.ParquetFile(folder / part.path) as file:
        return file.read(columns=columns)
