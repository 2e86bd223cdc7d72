"""Request bodies under a cap of bytes and of time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import ClientDisconnect, Request

from network.errors import XrpcError

BODY_TIMEOUT: Final = 30.0
# Of a streamed body, once that time has passed.
_BYTES_PER_S: Final = 8_192


def _too_large(limit: int) -> XrpcError:
    return XrpcError(
        "PayloadTooLarge",
        f"request body is over {limit} bytes",
        413,
        {"Connection": "close"},
    )


def _too_slow() -> XrpcError:
    return XrpcError(
        "RequestTimeout",
        "request body came too slowly",
        408,
        {"Connection": "close"},
    )


def _declared_length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise XrpcError("InvalidRequest", "Content-Length is not a number")
    return int(text)


async def stream_body(
    request: Request, limit: int, *, silence: float = BODY_TIMEOUT
) -> AsyncIterator[bytes]:
    """Yield the chunks of the body.

    Raises XrpcError 413 past `limit` bytes, 408 after `silence` seconds without a
    chunk, and for a body that takes longer than that and 8 kB a second.
    """
    declared = _declared_length(request)
    if declared is not None and declared > limit:
        raise _too_large(limit)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise XrpcError("InvalidRequest", "compressed bodies are not accepted", 415)
    received = 0
    chunks = request.stream()
    loop = asyncio.get_running_loop()
    started = loop.time()
    while True:
        latest = started + silence + received / _BYTES_PER_S
        try:
            async with asyncio.timeout_at(min(loop.time() + silence, latest)):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise _too_slow() from None
        except ClientDisconnect:
            raise XrpcError("InvalidRequest", "request body was cut short") from None
        if chunk is None:
            return
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        if chunk:
            yield chunk


async def read_body(
    request: Request, limit: int, *, total: float = BODY_TIMEOUT
) -> bytes:
    """The whole body, of at most `limit` bytes, within `total` seconds."""
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(total):
            async for chunk in stream_body(request, limit, silence=total):
                pieces.append(chunk)
    except TimeoutError:
        raise _too_slow() from None
    return b"".join(pieces)
