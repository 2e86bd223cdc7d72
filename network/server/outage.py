"""Failures that are not bugs, such as a full disk or a missing database: 503.

One log line for each reason every ten seconds, without a traceback.
"""

from __future__ import annotations

import errno
import logging
import time
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from network.errors import XrpcError

log = logging.getLogger(__name__)

BUSY: Final = "all connections to the database are busy"
AWAY: Final = "the database does not answer"
DISK_FULL: Final = "the disk is full"
_DATABASE: Final[tuple[tuple[type[Exception], str], ...]] = (
    (PoolTimeout, BUSY),
    (TooManyRequests, BUSY),
    (psycopg.errors.TooManyConnections, BUSY),
    (psycopg.errors.DiskFull, "the disk of the database is full"),
    (psycopg.errors.QueryCanceled, "the database needed too long"),
    (psycopg.errors.DeadlockDetected, "the database is busy"),
    (psycopg.errors.LockNotAvailable, "the database is busy"),
    (psycopg.errors.ReadOnlySqlTransaction, "the database is read-only"),
    (psycopg.errors.IdleInTransactionSessionTimeout, "the request took too long"),
    (psycopg.OperationalError, AWAY),
)
_FILES: Final = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EROFS: "the disk is read-only",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}
_SHORT_S: Final = 1
_LONG_S: Final = 10
_LOG_EVERY_S: Final = 10.0

_last_logged: dict[str, float] = {}
_last_full: list[float] = []


def outage_reason(error: BaseException) -> str | None:
    """Return the reason why the server cannot work now; None for other errors."""
    if isinstance(error, OSError) and error.errno in _FILES:
        return _FILES[error.errno]
    return next((text for kind, text in _DATABASE if isinstance(error, kind)), None)


def outage_error(error: BaseException) -> XrpcError | None:
    """Return the 503 for an outage, and log it; None for other errors."""
    reason = outage_reason(error)
    if reason is None:
        return None
    _note(reason, error)
    wait = _SHORT_S if reason == BUSY else _LONG_S
    return XrpcError("ServiceUnavailable", reason, 503, {"Retry-After": str(wait)})


def recently_full(within: float = 30.0) -> str | None:
    """Return the reason if a write met a full disk recently."""
    if _last_full and time.monotonic() - _last_full[0] < within:
        return DISK_FULL
    return None


def _note(reason: str, error: BaseException) -> None:
    now = time.monotonic()
    if reason.endswith("is full"):
        _last_full[:] = [now]
    if now - _last_logged.get(reason, -_LOG_EVERY_S) >= _LOG_EVERY_S:
        _last_logged[reason] = now
        detail = str(error).partition("\n")[0][:200]
        log.error("answering 503: %s (%s)", reason, detail)
