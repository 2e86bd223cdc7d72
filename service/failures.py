"""Failures that are expected, each told in one line: only bugs have a traceback."""

from __future__ import annotations

import errno

from service.errors import ServiceError

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
    """Return one line that says what failed and what to do, or None for a bug."""
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
    advice = _ADVICE.get(error.errno or 0)
    if isinstance(error, ConnectionError | TimeoutError):
        return f"no connection: {error}"
    if advice is None:
        return None
    what = f"{error.filename}: " if error.filename is not None else ""
    return f"{what}{(error.strerror or str(error)).lower()}; {advice}"


def _describe_library_error(error: BaseException) -> str | None:
    # Imported late: most commands that fail do so before any of these is loaded.
    import psycopg
    import psycopg_pool

    from network.errors import IdentityError, NetworkError

    if isinstance(error, psycopg.errors.DiskFull):
        return "the database has no space left on its disk; free some, then try again"
    if isinstance(error, psycopg.OperationalError | psycopg_pool.PoolTimeout):
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"the database does not answer: {lines[-1].strip()}; see that it runs"
    if isinstance(error, NetworkError | IdentityError):
        return f"{error}" or type(error).__name__
    return None
