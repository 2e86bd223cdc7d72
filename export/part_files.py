"""Parquet files of one increment, a file for each table and partition.

Rows are buffered until a row group is full. Compression runs in a thread of its own,
while the next rows are read; at most a few row groups wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from export.layout import COMPRESSION_LEVEL, ROW_GROUP_ROWS, Table, part_path
from export.manifest import ExportFolder, HashedFile, Part

_FILE_BYTES: Final = 512 * 1024**2
_BUFFERED_BYTES: Final = 192 * 1024**2
_GROUP_BYTES: Final = 16 * 1024**2
_WAITING: Final = 3


class PartFile:
    """One Parquet file."""

    def __init__(self, folder: ExportFolder, table: Table, path: str) -> None:
        self.path = path
        self.table = table
        self.rows = 0
        self._file = HashedFile(folder.path, path)
        self._writer = pq.ParquetWriter(
            self._file,
            table.schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
        )

    @property
    def size(self) -> int:
        return self._file.tell()

    def write(self, rows: Any) -> None:
        """Write a row group."""
        self._writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
        self.rows += len(rows)

    def discard(self) -> None:
        """Close the file without a name."""
        self._file.discard()

    def commit(self, first: int, last: int) -> Part:
        """Finish the file and give it its name."""
        self._writer.close()
        size, digest = self._file.commit()
        return Part(self.path, self.table.name, first, last, self.rows, size, digest)


class _Buffer:
    def __init__(self) -> None:
        self.tables: list[Any] = []
        self.rows = 0
        self.bytes = 0
        self.file: PartFile | None = None
        self.place = 0


class PartFiles:
    """The files of an increment, a context manager that closes them.

    `first` and `last` are the bounds of the increment, `moment` its time.
    """

    def __init__(
        self, folder: ExportFolder, first: int, last: int, moment: datetime
    ) -> None:
        self._folder = folder
        self._first, self._last, self._moment = first, last, moment
        self._buffers: dict[tuple[str, str], tuple[Table, _Buffer]] = {}
        self._bytes = 0
        self._parts: list[Part] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._jobs: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for left in [buffer for _, buffer in self._buffers.values()]:
            if left.file is not None:
                left.file.discard()

    def add(
        self, table: Table, rows: Any, partition: str = "", *, replaced: bool = False
    ) -> None:
        """Add rows: an Arrow table with the columns of `table`.

        `replaced` is for the other format: here a tombstone says it.
        """
        if not len(rows):
            return
        _, buffer = self._buffers.setdefault(
            (table.name, partition), (table, _Buffer())
        )
        buffer.tables.append(rows)
        buffer.rows += len(rows)
        buffer.bytes += rows.nbytes
        self._bytes += rows.nbytes
        if buffer.rows >= ROW_GROUP_ROWS or buffer.bytes > _GROUP_BYTES:
            self._flush(table, partition, buffer)
        while self._bytes > _BUFFERED_BYTES:
            (_, name), (largest, chosen) = max(
                self._buffers.items(), key=lambda item: item[1][1].bytes
            )
            self._flush(largest, name, chosen)

    def commit(self) -> list[Part]:
        """Finish all files; return them."""
        for (_, partition), (table, buffer) in self._buffers.items():
            self._flush(table, partition, buffer)
        self._wait(0)
        for _, buffer in self._buffers.values():
            if buffer.file is not None:
                self._parts.append(buffer.file.commit(self._first, self._last))
                buffer.file = None
        return sorted(self._parts, key=lambda part: part.path)

    def _flush(self, table: Table, partition: str, buffer: _Buffer) -> None:
        if not buffer.rows:
            return
        self._bytes -= buffer.bytes
        tables, buffer.tables, buffer.rows, buffer.bytes = buffer.tables, [], 0, 0
        self._wait(_WAITING)
        self._jobs.append(
            self._pool.submit(self._write, table, partition, buffer, tables)
        )

    def _wait(self, most: int) -> None:
        """Wait until at most `most` row groups are left; raise what failed."""
        while len(self._jobs) > most:
            self._jobs.pop(0).result()

    def _write(
        self, table: Table, partition: str, buffer: _Buffer, tables: list[Any]
    ) -> None:
        if buffer.file is not None and buffer.file.size > _FILE_BYTES:
            self._parts.append(buffer.file.commit(self._first, self._last))
            buffer.file = None
        if buffer.file is None:
            path = part_path(
                table, partition, self._moment, self._first, self._last, buffer.place
            )
            buffer.file = PartFile(self._folder, table, path)
            buffer.place += 1
        buffer.file.write(_joined(tables, table.schema))


def _joined(tables: Iterable[Any], schema: Any) -> Any:
    # Columns of names are dictionaries while they are buffered.
    return pa.concat_tables([rows.cast(schema) for rows in tables])
