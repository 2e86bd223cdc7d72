"""Expected failures as one line of text; only bugs have a traceback."""

from __future__ import annotations

import errno
import sys

from service.operator_errors import ServiceError

# SQLSTATE classes: connection, resources, intervention of an operator, system.
_DATABASE_AWAY = ("08", "53", "57P", "58")
_ADVICE = {
    errno.EACCES: "make it writable for this user, or choose another path",
    errno.EPERM: "make it writable for this user, or choose another path",
    errno.EROFS: "choose a path that is not read-only",
    errno.ENOSPC: "free some space on that disk, then run the command again",
    errno.EDQUOT: "free some space on that disk, then run the command again",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file, not a folder",
    errno.EADDRINUSE: "stop the other program, or set BIGWORLD_PORT_BASE",
    errno.EADDRNOTAVAIL: "set BIGWORLD_BIND to an address of this machine",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def describe_failure(error: BaseException) -> str | None:
    """Return the failure and the advice as one line, or None for a bug."""
    if isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) == 1:
            return describe_failure(error.exceptions[0])
        return None
    if isinstance(error, ServiceError):
        return str(error)
    if isinstance(error, OSError):
        return _describe_os_error(error)
    return _describe_library_error(error)


def _describe_os_error(error: OSError) -> str | None:
    if isinstance(error, TimeoutError):
        return str(error) or "no reply in time"
    if isinstance(error, ConnectionError):
        return f"no connection: {error.strerror or error}"
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        return None
    what = f"{error.filename}: " if error.filename is not None else ""
    return f"{what}{(error.strerror or str(error)).lower()}; {advice}"


def _describe_library_error(error: BaseException) -> str | None:
    line = _first_line(error)
    if _is_any(error, "psycopg.errors", "DiskFull"):
        return "the disk of the database is full; free some space, then try again"
    if _is_any(error, "psycopg", "OperationalError"):
        # No state means no connection; other classes are bugs.
        state: str | None = getattr(error, "sqlstate", None)
        if state is not None and not state.startswith(_DATABASE_AWAY):
            return None
        return f"the database does not answer: {line}; check that it runs"
    if _is_any(error, "psycopg_pool", "PoolTimeout"):
        return "the database does not answer in time; check that it runs"
    if _is_any(error, "redis.exceptions", "ConnectionError", "TimeoutError") or _is_any(
        error, "kombu.exceptions", "OperationalError"
    ):
        return f"the broker does not answer: {line}; check that it runs"
    if _is_any(error, "network.errors", "NetworkError", "IdentityError") or _is_any(
        error, "aiohttp", "ClientConnectionError"
    ):
        return line
    if _is_any(error, "export.manifest", "FolderError"):
        return line
    return None


def _is_any(error: BaseException, module: str, *names: str) -> bool:
    """Return True if `error` is one of these errors of a module, if it is loaded."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(
        error, tuple(getattr(loaded, name) for name in names)
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
