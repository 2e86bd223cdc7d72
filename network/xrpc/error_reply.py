"""XRPC error responses for exceptions: the one place that chooses status codes."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from network.errors import (
    IdentityError,
    NetworkError,
    RateLimitedError,
    TimedOutError,
    XrpcError,
)
from network.server.client_watch import ClientGoneError
from network.server.outage import outage_error
from protocol.errors import InvalidSyntaxError

log = logging.getLogger(__name__)

_MAX_MESSAGE: Final = 1_000
_HEADER_TEXT: Final = re.compile(r"[\x20-\x7e]*")


def error_response(error: Exception, nsid: str) -> JSONResponse:
    """Return `{"error", "message"}` for any exception; log unknown ones, as 500."""
    known = _to_xrpc_error(error)
    if known is None:
        log.error("handler of %r crashed", nsid[:400], exc_info=error)
        known = XrpcError("InternalServerError", "Internal Server Error", 500)
    headers = {
        name: value
        for name, value in known.headers.items()
        if _HEADER_TEXT.fullmatch(value)
    }
    if known.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    return JSONResponse(
        {"error": known.name, "message": known.message[:_MAX_MESSAGE]},
        status_code=known.status,
        headers=headers,
    )


def _to_xrpc_error(error: Exception) -> XrpcError | None:
    if isinstance(error, XrpcError):
        return error
    # A handler may let the parser of an identifier raise.
    if isinstance(error, InvalidSyntaxError | IdentityError):
        return XrpcError("InvalidRequest", str(error), 400)
    if isinstance(error, RateLimitedError):
        wait = str(max(1, round(error.retry_after)))
        return XrpcError(
            "UpstreamFailure", "upstream is busy", 503, {"Retry-After": wait}
        )
    if isinstance(error, TimedOutError):
        return XrpcError("UpstreamTimeout", "upstream was too slow", 504)
    if isinstance(error, NetworkError):
        return XrpcError("UpstreamFailure", "upstream failed", 502)
    if isinstance(error, ClientGoneError):
        return XrpcError("ClientClosedRequest", "the client disconnected", 499)
    return outage_error(error)


async def respond_to_outage(request: Request, error: Exception) -> Response:
    """Respond to any request that met an outage; raise other errors."""
    known = error if isinstance(error, XrpcError) else outage_error(error)
    if known is None:
        raise error
    return error_response(known, "")


OUTAGES: Final[dict[Any, Any]] = {
    XrpcError: respond_to_outage,
    psycopg.Error: respond_to_outage,
    PoolTimeout: respond_to_outage,
    OSError: respond_to_outage,
}
"""Exception handlers for the routes of an app that are no methods of XRPC."""
