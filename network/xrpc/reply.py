"""HTTP responses from the results of handlers: JSON, bytes, or a stream of bytes."""

from __future__ import annotations

import base64
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterator,
    Mapping,
)
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import anyio
import anyio.lowlevel
import orjson
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from network.server.spool import ReaderTooSlowError, SpoolReader
from protocol.data.cid import Cid
from protocol.errors import ProtocolError
from protocol.lexicon import Method

JSON: Final = "application/json"
_BATCH_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Reply:
    """A response with more than its JSON.

    `body` is a JSON value (links and bytes of the data model are allowed inside),
    bytes, or an iterator or async iterator of bytes.
    """

    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    content_type: str | None = None


class InvalidOutputError(Exception):
    """A response that does not fit its own lexicon: our bug."""


def encode_json(value: Any) -> bytes:
    """Return the JSON text of a value, with links as $link and bytes as $bytes."""
    # Without it orjson would write a link, a dataclass, field by field.
    return orjson.dumps(
        value, default=_data_model_json, option=orjson.OPT_PASSTHROUGH_DATACLASS
    )


def _data_model_json(value: Any) -> Any:
    if isinstance(value, Cid):
        return {"$link": str(value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).rstrip(b"=").decode()}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


class _Source(Protocol):
    """The pieces of a body, b"" at the end."""

    async def read(self) -> bytes: ...

    async def aclose(self) -> None: ...


class _AsyncSource:
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    async def read(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""

    async def aclose(self) -> None:
        if isinstance(self._chunks, AsyncGenerator | SpoolReader):
            await self._chunks.aclose()


class _SyncSource:
    def __init__(self, chunks: Iterator[bytes], limiter: anyio.CapacityLimiter) -> None:
        self._chunks = chunks
        self._limiter = limiter

    async def read(self) -> bytes:
        return await anyio.to_thread.run_sync(self._batch, limiter=self._limiter)

    def _batch(self) -> bytes:
        # Blocks of a CAR are small: one hop to a thread fetches 64 kB.
        pieces: list[bytes] = []
        size = 0
        for chunk in self._chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size >= _BATCH_BYTES:
                break
        return b"".join(pieces)

    async def aclose(self) -> None:
        if isinstance(self._chunks, Generator):
            await anyio.to_thread.run_sync(self._chunks.close, limiter=self._limiter)


class ByteStream(StreamingResponse):
    """A body in chunks, whose source is always closed."""

    def __init__(
        self, first: bytes, source: _Source, status: int, headers: Mapping[str, str]
    ) -> None:
        self._source = source
        super().__init__(self._read(first), status, headers)

    async def _read(self, piece: bytes) -> AsyncGenerator[bytes, None]:
        while piece:
            yield piece
            # uvicorn accepts data for a closed connection without a pause: let the
            # event loop notice the disconnect.
            await anyio.lowlevel.checkpoint()
            piece = await self._source.read()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except ReaderTooSlowError:
            pass  # the server closes the connection of an incomplete response
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the source; also for a response that is not sent."""
        with anyio.CancelScope(shield=True):
            await self._source.aclose()


async def build_response(
    reply: Reply, method: Method, *, check: bool, limiter: anyio.CapacityLimiter
) -> Response:
    """Return the HTTP response. Raises InvalidOutputError if `check` finds a misfit."""
    body = reply.body
    headers = dict(reply.headers)
    declared = method.output.encoding if method.output else None
    if isinstance(body, (bytes, bytearray, memoryview)):
        media = reply.content_type or _binary_type(declared)
        return _typed(Response(bytes(body), reply.status, headers), media)
    source: _Source
    if isinstance(body, SpoolReader):
        headers["Content-Length"] = str(body.size)
    if isinstance(body, AsyncIterable):
        source = _AsyncSource(aiter(body))
    elif isinstance(body, Iterator):
        source = _SyncSource(body, limiter)
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
    # Read before the status is sent: a source that fails at once gives an error.
    try:
        first = await source.read()
    except BaseException:
        await source.aclose()
        raise
    media = reply.content_type or _binary_type(declared)
    return _typed(ByteStream(first, source, reply.status, headers), media)


def _typed(response: Response, media: str) -> Response:
    response.headers["Content-Type"] = media
    return response


def _binary_type(declared: str | None) -> str:
    if declared is None or "*" in declared:
        return "application/octet-stream"
    return declared
