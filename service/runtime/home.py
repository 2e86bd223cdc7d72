"""The home: a private folder of all data, used by one `up` at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from service.operator_errors import FolderInUseError, ServiceError
from service.runtime.failures import describe_failure

_PRIVATE: Final = 0o700
_LOCK: Final = "lock"


def make_home(home: Path) -> None:
    """Create the home, or make an existing one private. Raises ServiceError."""
    try:
        home.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        if home.stat().st_mode & 0o777 != _PRIVATE and _is_ours(home):
            home.chmod(_PRIVATE)
    except OSError as error:
        reason = describe_failure(error) or str(error)
        raise ServiceError(f"cannot use BIGWORLD_HOME: {reason}") from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise ServiceError(
            f"the home {home} is not writable: change its permissions, or set"
            " BIGWORLD_HOME to another folder"
        )


@contextmanager
def hold_home(home: Path) -> Iterator[None]:
    """Hold the lock of the home. Raises ServiceError if another `up` holds it."""
    from service.runtime.embedded.folders import FolderLock

    lock = FolderLock(home / _LOCK)
    try:
        lock.acquire()
    except FolderInUseError as error:
        holder = "" if error.pid is None else f" (pid {error.pid})"
        raise ServiceError(
            f"Bigworld already runs in {home}{holder}: stop it first, or set"
            " BIGWORLD_HOME to another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_private(path: Path, value: Any) -> None:
    """Replace a JSON file atomically, readable by its owner only."""
    path.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
    draft.replace(path)


def _is_ours(home: Path) -> bool:
    return os.geteuid() in (0, home.stat().st_uid)
