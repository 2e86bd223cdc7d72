"""What a client is told when the database cannot answer: 503, and why."""

from __future__ import annotations

import logging
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from network.xrpc_server import XrpcError

log = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 1
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (PoolTimeout, "all connections to the database are busy"),
    (TooManyRequests, "all connections to the database are busy"),
    (psycopg.errors.QueryCanceled, "the database needed too long"),
)


def unavailable(error: psycopg.OperationalError) -> XrpcError:
    """Return the answer to a request that failed for lack of a database."""
    reason = next(
        (text for kind, text in _REASONS if isinstance(error, kind)),
        "the database does not answer",
    )
    log.warning("%s: %s", reason, str(error).partition("\n")[0][:200])
    return XrpcError(
        "ServiceUnavailable", reason, 503, {"Retry-After": str(RETRY_AFTER_S)}
    )
