"""Folders of a server: locked, private, owned by the right user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from service.operator_errors import EmbeddedServerError, FolderInUseError

# sun_path holds 108 bytes with its NUL.
_MAX_SOCKET_PATH = 107


class FolderLock:
    """A lock of a data folder, released by the kernel when the process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _read_pid(descriptor)
            os.close(descriptor)
            holder = "" if pid is None else f" (pid {pid})"
            raise FolderInUseError(
                f"{self._path.parent} is in use by another bigworld process{holder}",
                pid,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        self._file = descriptor

    @property
    def held(self) -> bool:
        return self._file is not None

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _read_pid(descriptor: int) -> int | None:
    """Return the process id of the lock's holder."""
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None


def socket_folder(preferred: Path, socket_name: str, owner: int) -> Path:
    """Return a private folder where the socket's path fits the system's limit."""
    if len(os.fsencode(preferred / socket_name)) <= _MAX_SOCKET_PATH:
        folder = preferred
    else:
        digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"bigworld-{digest}"
        if len(os.fsencode(folder / socket_name)) > _MAX_SOCKET_PATH:
            folder = Path("/tmp") / f"bigworld-{digest}"  # noqa: S108  (checked below)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = folder.lstat()
    # Another user may have created the predictable name under /tmp first.
    ours = folder == preferred or info.st_uid in (os.geteuid(), owner)
    if not stat.S_ISDIR(info.st_mode) or not ours:
        raise EmbeddedServerError(f"{folder} belongs to another user; remove it")
    folder.chmod(0o700)
    if info.st_uid != owner:
        os.chown(folder, owner, owner)
    return folder


def give_to(folder: Path, owner: int) -> None:
    """Change the owner of the data folder to the user that the server runs as."""
    if os.geteuid() != 0 or folder.stat().st_uid == owner:
        return
    for parent, _, files in os.walk(folder):
        os.chown(parent, owner, owner)
        for name in files:
            os.chown(os.path.join(parent, name), owner, owner, follow_symlinks=False)
