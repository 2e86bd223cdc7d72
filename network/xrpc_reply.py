"""Results of handlers to HTTP answers: JSON, bytes, or a stream of bytes."""

from __future__ import annotations

import base64
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import orjson
from starlette.responses import Response, StreamingResponse

from protocol.cid import Cid
from protocol.errors import ProtocolError
from protocol.lexicon import Method

log = logging.getLogger(__name__)

JSON: Final = "application/json"
_BATCH_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with more to say than its JSON.

    `body` is a JSON value (links and bytes of the data model are allowed inside),
    bytes, or an iterator or async iterator of bytes.
    """

    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    content_type: str | None = None


class InvalidOutputError(Exception):
    """A handler's answer does not fit its own lexicon: our bug."""


def encode_json(value: Any) -> bytes:
    """JSON text of a value, with links as $link and bytes as $bytes."""
    return orjson.dumps(value, default=_data_model_json)


def _data_model_json(value: Any) -> Any:
    if isinstance(value, Cid):
        return {"$link": str(value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).rstrip(b"=").decode()}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


async def build_response(
    reply: Reply, method: Method, *, check: bool, limiter: anyio.CapacityLimiter
) -> Response:
    """The HTTP answer. Raises InvalidOutputError if `check` finds a misfit."""
    body = reply.body
    headers = dict(reply.headers)
    declared = method.output.encoding if method.output else None
    if isinstance(body, (bytes, bytearray, memoryview)):
        media = reply.content_type or _binary_type(declared)
        return _typed(Response(bytes(body), reply.status, headers), media)
    if hasattr(body, "__aiter__"):
        chunks = aiter(body)
        first = await anext(chunks, b"")
        stream = _prepend(first, chunks)
    elif isinstance(body, Iterator):
        first = await anyio.to_thread.run_sync(_next_batch, body, limiter=limiter)
        stream = _iterate_in_threads(first, body, limiter)
    else:
        if body is None and declared is None:
            return Response(b"", reply.status, headers)
        content = encode_json(body)
        if check and declared == JSON and reply.status == 200:
            try:
                method.check_output(orjson.loads(content))
            except ProtocolError as error:
                raise InvalidOutputError(f"{method.nsid}: {error}") from error
        return _typed(
            Response(content, reply.status, headers), reply.content_type or JSON
        )
    media = reply.content_type or _binary_type(declared)
    return _typed(StreamingResponse(stream, reply.status, headers), media)


def _typed(response: Response, media: str) -> Response:
    response.headers["Content-Type"] = media
    return response


def _binary_type(declared: str | None) -> str:
    if declared is None or "*" in declared:
        return "application/octet-stream"
    return declared


async def _prepend(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for chunk in rest:
            yield chunk
    finally:
        # A reader that hung up must not leave the source open.
        if hasattr(rest, "aclose"):
            await rest.aclose()


def _next_batch(chunks: Iterator[bytes]) -> bytes:
    """Blocks of a CAR are small: a hop to a thread is paid for 64 kB at once."""
    pieces: list[bytes] = []
    size = 0
    for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size >= _BATCH_BYTES:
            break
    return b"".join(pieces)


async def _iterate_in_threads(
    first: bytes, chunks: Iterator[bytes], limiter: anyio.CapacityLimiter
) -> AsyncIterator[bytes]:
    try:
        batch = first
        while batch:
            yield batch
            batch = await anyio.to_thread.run_sync(_next_batch, chunks, limiter=limiter)
    finally:
        if hasattr(chunks, "close"):
            with anyio.CancelScope(shield=True), contextlib.suppress(RuntimeError):
                await anyio.to_thread.run_sync(chunks.close, limiter=limiter)
