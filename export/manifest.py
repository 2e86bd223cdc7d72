"""The folder of an export: its lock, its manifest and its files.

A file is written under another name, synced and renamed. It belongs to the export once
a line of the manifest names it. A crash leaves files that no line names: the next
writer removes them.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from export.layout import EVENTS, SCHEMA_VERSION, TABLES
from export.views import EMPTY, VIEWS, write_views

MANIFEST: Final = "manifest.jsonl"
PARQUET: Final = "parquet"
_LOCK: Final = ".lock"
_DRAFT: Final = ".draft"
_HASH_BYTES: Final = 1024 * 1024


class FolderError(Exception):
    """The folder cannot be used as an export."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the export. `last` is the end of the increments in it."""

    path: str
    table: str
    first: int
    last: int
    rows: int
    bytes: int
    sha256: str

    @property
    def partition(self) -> str:
        """Return its folder."""
        return self.path.rpartition("/")[0]


@dataclass(slots=True)
class Manifest:
    """Content of the manifest. `parts` are the files in force, by path.

    `last` is the end of the last increment. `base`: accounts up to this id are in the
    export; None for all. `covered`: number of the newest snapshot that was read.
    `compacted`: tombstones up to this number are applied to all
    files. `pending_since`: the time of the first increment with tombstones after it.
    """

    token: str = ""
    last: int = 0
    base: int | None = 0
    covered: int = 0
    compacted: int = 0
    pending_since: float | None = None
    promise_hours: float = 24.0
    format: str = "parquet"
    parts: dict[str, Part] = field(default_factory=dict)
    moments: list[tuple[int, float]] = field(default_factory=list)
    """Number and time of each increment since the last compaction."""
    increments: int = 0

    def read(self, line: Mapping[str, Any]) -> None:
        """Take the next line."""
        if line["kind"] == "export":
            if line["schema"] != SCHEMA_VERSION:
                raise FolderError(f"schema version {line['schema']} is not supported")
            self.token = line["token"]
            self.format = line["format"]
            self.promise_hours = line["promise_hours"]
            self.parts.clear()
            self.moments.clear()
            self.last = self.compacted = self.covered = self.increments = 0
            self.base, self.pending_since = 0, None
            return
        for path in line.get("replaces", ()):
            self.parts.pop(path, None)
        for part in line["files"]:
            self.parts[part["path"]] = Part(**part)
        if line["kind"] == "compaction":
            self.compacted = line["applied"]
            self.moments.clear()
            self.pending_since = None
            return
        self.last = line["to"]
        self.base = line["base"]
        self.covered = max(self.covered, line["snapshot"])
        self.increments += 1
        self.moments.append((line["to"], line["time"]))
        if self.pending_since is None and line["tombstones"]:
            self.pending_since = line["time"]


class ExportFolder:
    """A folder that one process writes, a context manager: it holds the lock.

    Raises FolderError for a folder that another process writes, or that is not empty
    and no export.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = Manifest()
        self._lock: BinaryIO | None = None

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        known = {MANIFEST, _LOCK, VIEWS, EVENTS, *TABLES}
        names = {path.name for path in self.path.iterdir()}
        if strange := sorted(names - known):
            raise FolderError(
                f"{self.path} holds other files ({strange[0]}): name a new folder"
            )
        self._lock = (self.path / _LOCK).open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise FolderError(f"another process exports to {self.path}") from None
        self.manifest = read_manifest(self.path)
        self._cut_manifest()
        self.remove_strays()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def begin(self, *, promise_hours: float, format: str) -> str:
        """Start the export, or start it over without its files; return its token."""
        token = secrets.token_hex(16)
        self.append(
            {
                "kind": "export",
                "schema": SCHEMA_VERSION,
                "token": token,
                "format": format,
                "promise_hours": promise_hours,
            }
        )
        self.remove_strays()
        if format == PARQUET:
            write_views(self.path)
        return token

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a line to the manifest, on disk when this returns."""
        text = json.dumps(line, separators=(",", ":")) + "\n"
        with (self.path / MANIFEST).open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(self.path)
        self.manifest.read(line)

    def remove_strays(self) -> None:
        """Remove files that the manifest does not name, such as those of a crash."""
        for name in (EVENTS, *TABLES):
            for path in (self.path / name).rglob("*"):
                known = path.relative_to(self.path).as_posix() in self.manifest.parts
                if path.is_file() and not known and path.name != EMPTY:
                    path.unlink()

    def _cut_manifest(self) -> None:
        """Cut a last line off that a crash left without its end."""
        path = self.path / MANIFEST
        if path.exists() and not (data := path.read_bytes()).endswith(b"\n") and data:
            with path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder, an empty one if there is none.

    Raises FolderError for a line that no export wrote.
    """
    manifest = Manifest()
    for line in _lines(folder / MANIFEST):
        try:
            manifest.read(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FolderError(f"{folder / MANIFEST} is damaged: {error!r}") from error
    return manifest


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            # A line without its end was never acknowledged.
            yield from (line for line in file if line.endswith(b"\n"))


class HashedFile:
    """A file that is hashed while it is written; `commit` gives it its name."""

    def __init__(self, folder: Path, path: str) -> None:
        self._path = folder / path
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._draft = self._path.with_name(self._path.name + _DRAFT)
        self._file = self._draft.open("wb")
        self._hash = sha256()
        self.closed = False

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Do nothing: the Parquet writer closes what it was given."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def discard(self) -> None:
        """Close the file without a name; the next writer removes it."""
        self._file.close()

    def commit(self) -> tuple[int, str]:
        """Sync and rename the file; return its size and its SHA-256."""
        size = self._file.tell()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.replace(self._path)
        _sync_folder(self._path.parent)
        return size, self._hash.hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while data := file.read(_HASH_BYTES):
            digest.update(data)
    return digest.hexdigest()


def part_lines(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Return the form of parts in a line."""
    return [asdict(part) for part in parts]


def _sync_folder(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
