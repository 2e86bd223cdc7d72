"""The Python files of a folder as feeds, loaded again when they change."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Final

import structlog

from feeds.recipes.recipe import MAX_NAME_CHARS
from feeds.registry import FEEDS
from feeds.scripts.script_feed import ScriptFeed, SharedRuns, shared_runs

log = structlog.get_logger(__name__)

MAX_SCRIPTS: Final = 32
MAX_SCRIPT_BYTES: Final = 65_536
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_IDLE_S: Final = 60.0
_RETRY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class KnownScript:
    """A feed, with the time of its file."""

    feed: ScriptFeed
    saved_at: datetime


@dataclass(slots=True)
class _Seen:
    """A version of a file; a failed one is tried again later."""

    stamp: tuple[int, int, int]
    tried_at: float
    error: str | None = None

    @property
    def is_due(self) -> bool:
        """Return True if a failed version can be tried again."""
        return self.error is not None and monotonic() - self.tried_at >= _RETRY_S


class ScriptBook:
    """The feeds of a folder, which `refresh` keeps up to date.

    A faulty new version of a file leaves the feed as it was. One thread refreshes it;
    any thread reads `scripts`.
    """

    def __init__(self, folder: Path, shared: SharedRuns | None = None) -> None:
        self.scripts: Mapping[str, KnownScript] = {}
        self._folder = folder
        self._shared = shared or shared_runs()
        self._seen: dict[str, _Seen] = {}
        self._misnamed: dict[str, str] = {}
        self._stopping = threading.Event()

    def refresh(self) -> dict[str, str]:
        """Load new and changed files; return the errors by file name."""
        paths = self._find_files()
        for name in [name for name in self._seen if name not in paths]:
            self._replace(name, None)
            del self._seen[name]
        for name, path in paths.items():
            if self._stopping.is_set():
                break
            self._read(name, path)
        for known in self.scripts.values():
            known.feed.rest(_IDLE_S)
        return self.errors

    @property
    def errors(self) -> dict[str, str]:
        """Return the reasons of refused versions and of failed runs, by file name."""
        failed = {k.feed.path.name: k.feed.error for k in self.scripts.values()}
        refused = {f"{name}.py": seen.error for name, seen in self._seen.items()}
        known = {name: error for name, error in failed.items() if error is not None}
        known |= {name: error for name, error in refused.items() if error is not None}
        return known | self._misnamed

    def stop(self) -> None:
        """Load no further files."""
        self._stopping.set()

    def close(self) -> None:
        """End all processes."""
        self.stop()
        for name in [*self.scripts]:
            self._replace(name, None)

    def _find_files(self) -> dict[str, Path]:
        paths = sorted(self._folder.glob("*.py"))
        good: dict[str, Path] = {}
        refused: dict[str, str] = {}
        for path in paths:
            if fault := name_fault(path.stem):
                refused[path.name] = fault
            elif len(good) == MAX_SCRIPTS:
                refused[path.name] = f"at most {MAX_SCRIPTS} Python files are served"
            else:
                good[path.stem] = path
        for name, reason in refused.items():
            if self._misnamed.get(name) != reason:
                log.warning("feed_file_refused", file=name, error=reason)
        self._misnamed = refused
        return good

    def _read(self, name: str, path: Path) -> None:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            seen = self._seen.get(name)
            if seen is not None and seen.stamp == stamp and not seen.is_due:
                return
            self._seen[name] = _Seen(stamp, monotonic())
            feed = ScriptFeed(path, read_script(path), self._shared)
        except (OSError, ValueError) as error:
            self._note(name, str(error))
            return
        saved_at = datetime.fromtimestamp(status.st_mtime, UTC)
        if not feed.load():
            self._note(name, str(feed.error))
            if name in self.scripts and self.scripts[name].feed.error is None:
                return
            # Its readers get the error.
        self._replace(name, KnownScript(feed, saved_at))

    def _note(self, name: str, error: str) -> None:
        seen = self._seen.setdefault(name, _Seen((0, 0, 0), monotonic()))
        if seen.error != error:
            log.warning("feed_file_refused", file=f"{name}.py", error=error)
        seen.error = error

    def _replace(self, name: str, known: KnownScript | None) -> None:
        old = self.scripts.get(name)
        self._put(name, known)
        if old is not None:
            old.feed.retire()

    def _put(self, name: str, known: KnownScript | None) -> None:
        # A new mapping: readers hold the one before.
        changed = {**self.scripts}
        changed.pop(name, None)
        if known is not None:
            changed[name] = known
        self.scripts = changed


def name_fault(name: str) -> str | None:
    """Return the reason why no file can have a name (without .py), None if it can."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        return "name it with lower-case letters, digits and hyphens"
    return f"{name} is a built-in feed" if name in FEEDS else None


def read_script(path: Path) -> str:
    """Return the text of a file. Raises ValueError or OSError."""
    with path.open("rb") as file:
        data = file.read(MAX_SCRIPT_BYTES + 1)
    if len(data) > MAX_SCRIPT_BYTES:
        raise ValueError(f"the file is over {MAX_SCRIPT_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("the file is not valid UTF-8") from None
