"""Bounded cache of images on disk, least recently used first out."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO, Final

_MODE: Final = 0o700


class ImageCache:
    """A folder of files, at most `max_bytes` in total. Thread-safe.

    Another process may use the same folder: a missing file is a miss, and one of the
    other's files a hit. Each evicts what it has written or read.
    """

    def __init__(self, folder: Path, max_bytes: float) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0
        folder.mkdir(_MODE, parents=True, exist_ok=True)
        for path in sorted(folder.iterdir(), key=_changed_at):
            self._add(path.name, _size(path))

    @property
    def total(self) -> int:
        """Return the size of all files."""
        return self._total

    def open(self, name: str) -> BinaryIO | None:
        """Open a cached file and mark it as used."""
        try:
            file = (self._folder / name).open("rb")
        except FileNotFoundError:
            with self._lock:
                self._total -= self._sizes.pop(name, 0)
            return None
        with self._lock:
            self._add(name, os.fstat(file.fileno()).st_size)
        return file

    def put(self, name: str, content: bytes) -> None:
        """Write a file atomically, and evict files over the bound."""
        if len(content) > self._max_bytes:
            return
        draft = self._folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
        try:
            draft.write_bytes(content)
            draft.replace(self._folder / name)
        except OSError:
            # On a full disk the image is served, but not cached.
            draft.unlink(missing_ok=True)
            return
        with self._lock:
            self._add(name, len(content))

    def _add(self, name: str, size: int) -> None:
        self._total += size - self._sizes.pop(name, 0)
        self._sizes[name] = size
        while self._total > self._max_bytes and self._sizes:
            oldest, freed = self._sizes.popitem(last=False)
            self._total -= freed
            with contextlib.suppress(OSError):
                (self._folder / oldest).unlink(missing_ok=True)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
