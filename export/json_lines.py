"""The second format of an export: lines of JSON in the event form of Jetstream.

A record is a `create` or an `update`, a removed one a `delete`, and an account that
leaves is an `account` event that is not active. `rev` is the repo's at that time. The
files are zstd streams of lines.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import orjson
import zstandard

from export.layout import ACTORS, EVENTS, RECORDS, TOMBSTONES, Kind, Table
from export.manifest import ExportFolder, HashedFile, Part

JSON_LINES: Final = "jsonl"
_LEVEL: Final = 3
_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"

Key = tuple[str, str, str]
"""DID, collection and record key; empty for events of an account."""


class _LineFile:
    def __init__(self, folder: ExportFolder, path: str) -> None:
        self.path = path
        self.rows = 0
        self._file = HashedFile(folder.path, path)
        self._stream = zstandard.ZstdCompressor(level=_LEVEL).stream_writer(
            self._file,  # type: ignore[arg-type]
            closefd=False,
        )

    def write(self, line: bytes) -> None:
        self._stream.write(line)
        self.rows += 1

    def discard(self) -> None:
        self._file.discard()

    def commit(self, first: int, last: int) -> Part:
        self._stream.flush(zstandard.FLUSH_FRAME)
        size, digest = self._file.commit()
        return Part(self.path, EVENTS, first, last, self.rows, size, digest)


class EventFiles:
    """The events of one increment, with the methods of PartFiles.

    `revs`: DID -> rev of the repo, filled before its rows are added.
    """

    def __init__(
        self,
        folder: ExportFolder,
        first: int,
        last: int,
        moment: datetime,
        revs: Mapping[str, str],
    ) -> None:
        self._folder = folder
        self._first, self._last = first, last
        self._day = f"{moment:%Y-%m-%d}"
        self._time = moment.strftime(_TIME)
        self._time_us = int(moment.timestamp() * 1_000_000)
        self._revs = revs
        self._file: _LineFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.discard()

    def add(
        self, table: Table, rows: Any, partition: str = "", *, replaced: bool = False
    ) -> None:
        """Add rows of a table; those of tables without events are left out."""
        if table is RECORDS:
            self._add_records(rows, "update" if replaced else "create")
        elif table is TOMBSTONES and partition != Kind.UPDATE:
            for row in rows.to_pylist():
                self._add_removal(row, partition)
        elif table is ACTORS:
            for did, handle in zip(
                rows["did"].to_pylist(), rows["handle"].to_pylist(), strict=True
            ):
                if handle is not None:
                    fields = {"did": did, "handle": handle}
                    self._write(did, "identity", self._sequenced(fields))

    def commit(self) -> list[Part]:
        """Finish the file."""
        if self._file is None:
            return []
        part = self._file.commit(self._first, self._last)
        self._file = None
        return [part]

    def _add_records(self, rows: Any, operation: str) -> None:
        names = ("did", "nsid", "rkey", "cid", "record")
        columns = [rows[name].to_pylist() for name in names]
        for did, nsid, rkey, cid, record in zip(*columns, strict=True):
            fields = {
                "rev": self._revs.get(did, ""),
                "operation": operation,
                "collection": nsid,
                "rkey": rkey,
                "cid": cid,
                "record": orjson.Fragment(record),
            }
            self._write(did, "commit", fields)

    def _add_removal(self, row: Mapping[str, Any], kind: str) -> None:
        did = row["did"]
        if row["nsid"] is None:
            fields: dict[str, Any] = {"active": False, "did": did}
            if kind == Kind.TAKEDOWN:
                fields["status"] = "takendown"
            self._write(did, "account", self._sequenced(fields))
            return
        fields = {
            "rev": self._revs.get(did, ""),
            "operation": "delete",
            "collection": row["nsid"],
            "rkey": row["rkey"],
        }
        self._write(did, "commit", fields)

    def _sequenced(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "seq": self._last, "time": self._time}

    def _write(self, did: str, kind: str, fields: Mapping[str, Any]) -> None:
        if self._file is None:
            name = f"part-{self._first}-{self._last}.jsonl.zst"
            self._file = _LineFile(self._folder, f"{EVENTS}/date={self._day}/{name}")
        # No two messages of a stream share their time.
        self._time_us += 1
        line = {"did": did, "time_us": self._time_us, "kind": kind, kind: fields}
        self._file.write(orjson.dumps(line) + b"\n")


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file."""
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(
            file, read_across_frames=True
        )
        yield from io.BufferedReader(stream)


def key_of(line: bytes) -> tuple[Key, bool]:
    """Return what an event is about, and True if it removes that."""
    event = orjson.loads(line)
    did, kind = event["did"], event["kind"]
    if kind == "commit":
        commit = event["commit"]
        key = (did, commit["collection"], commit["rkey"])
        return key, commit["operation"] == "delete"
    return (did, "", kind), kind == "account"


class LaterEvents:
    """The last event of each record and account in some files."""

    def __init__(self, folder: Path, parts: list[Part]) -> None:
        self._last: dict[Key, int] = {}
        self._gone: dict[str, int] = {}
        for part in sorted(parts, key=lambda part: part.last):
            for line in read_lines(folder / part.path):
                key, removes = key_of(line)
                self._last[key] = part.last
                if removes and not key[1]:
                    self._gone[key[0]] = part.last

    def limit(self, key: Key) -> int:
        """Return the number below which events with a key are replaced."""
        return max(self._last.get(key, 0), self._gone.get(key[0], 0))


def rewrite_lines(
    folder: ExportFolder, part: Part, later: LaterEvents, applied: int
) -> tuple[Part | None, int]:
    """Write a file again without replaced events.

    Returns the new file, None if nothing is left, and the number of removed lines.
    """
    stem = part.path.removesuffix(".jsonl.zst").partition("_")[0]
    file = _LineFile(folder, f"{stem}_{applied}.jsonl.zst")
    removed = 0
    for line in read_lines(folder.path / part.path):
        if later.limit(key_of(line)[0]) > part.last:
            removed += 1
        else:
            file.write(line)
    if not removed or not file.rows:
        file.discard()
        return (None if removed else part), removed
    return file.commit(part.first, part.last), removed
