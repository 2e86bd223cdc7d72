"""Request bodies with a cap of bytes and of time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import ClientDisconnect, Request

from network.errors import XrpcError

BODY_TIMEOUT: Final = 30.0
STREAM_TIMEOUT: Final = 3_600.0


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


def _too_slow() -> XrpcError:
    return XrpcError(
        "RequestTimeout",
        "the request body came too slowly",
        408,
        {"Connection": "close"},
    )


def _check_head(request: Request, limit: int) -> None:
    declared = _declared_length(request)
    if declared is not None and declared > limit:
        raise _too_large(limit)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise XrpcError("InvalidRequest", "compressed bodies are not accepted", 415)


async def read_body(
    request: Request, limit: int, *, total: float = BODY_TIMEOUT
) -> bytes:
    """Return the whole body.

    Raises XrpcError: 413 over `limit` bytes, 408 if it does not arrive in time, 415 if
    it is compressed.
    """
    _check_head(request, limit)
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
        raise _too_slow() from None
    except ClientDisconnect:
        raise XrpcError("InvalidRequest", "request body was cut short") from None
    return b"".join(pieces)


async def stream_body(
    request: Request,
    limit: int,
    *,
    idle: float = BODY_TIMEOUT,
    total: float = STREAM_TIMEOUT,
) -> AsyncIterator[bytes]:
    """Yield the body in pieces. Raises as `read_body`; each piece may take `idle`."""
    _check_head(request, limit)
    received = 0
    clock = asyncio.get_running_loop().time
    ends = clock() + total
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(min(idle, ends - clock())):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _too_slow() from None
        except ClientDisconnect:
            raise XrpcError("InvalidRequest", "request body was cut short") from None
        received += len(piece)
        if received > limit:
            raise _too_large(limit)
        yield piece
