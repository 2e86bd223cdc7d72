"""Request bodies with a cap of bytes and of time."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request

from network.errors import XrpcError

BODY_TIMEOUT: Final = 30.0


def _too_large(limit: int) -> XrpcError:
    return XrpcError(
        "PayloadTooLarge",
        f"request body is over {limit} bytes",
        413,
        {"Connection": "close"},
    )


def _declared_length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise XrpcError("InvalidRequest", "Content-Length is not a number")
    return int(text)


async def read_body(
    request: Request, limit: int, *, total: float = BODY_TIMEOUT
) -> bytes:
    """Return the whole body.

    Raises XrpcError: 413 over `limit` bytes, 408 if it does not arrive in time, 415 if
    it is compressed.
    """
    declared = _declared_length(request)
    if declared is not None and declared > limit:
        raise _too_large(limit)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise XrpcError("InvalidRequest", "compressed bodies are not accepted", 415)
    pieces: list[bytes] = []
    received = 0
    try:
        async with asyncio.timeout(total):
            async for chunk in request.stream():
                received += len(chunk)
                if received > limit:
                    raise _too_large(limit)
                pieces.append(chunk)
    except TimeoutError:
        raise XrpcError(
            "RequestTimeout",
            "the request body came too slowly",
            408,
            {"Connection": "close"},
        ) from None
    except ClientDisconnect:
        raise XrpcError("InvalidRequest", "request body was cut short") from None
    return b"".join(pieces)
