"""Log files of child processes, with rotation."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 16 * 1024 * 1024
KEPT_FILES: Final = 4


def bound_log(path: Path, *, most_bytes: int = MOST_BYTES) -> None:
    """Rotate a log that is too large to `NAME.1`, and older ones one number up.

    The writer holds the file open, so that it is copied and truncated. On a full disk
    nothing is kept.
    """
    try:
        if path.stat().st_size <= most_bytes:
            return
    except FileNotFoundError:
        return
    for number in range(KEPT_FILES - 1, 0, -1):
        older = _numbered(path, number)
        if older.exists():
            older.replace(_numbered(path, number + 1))
    newest = _numbered(path, 1)
    try:
        shutil.copyfile(path, newest)
        newest.chmod(0o600)
    except OSError:
        newest.unlink(missing_ok=True)
    os.truncate(path, 0)


def last_line(path: Path, size: int = 4_000) -> str:
    """Return the last line of a log that is not empty."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return last_line_of(file.read().decode("utf-8", "replace"))


def last_line_of(text: str) -> str:
    """Return the last line of a text that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no output"


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
