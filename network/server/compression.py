"""Compressed responses: zstd or gzip, as the client prefers."""

from __future__ import annotations

import zlib
from typing import Final, Protocol

import anyio.to_thread
import zstandard
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_BYTES: Final = 1_024
"""The minimum size of a body worth compressing."""
_ZSTD_LEVEL: Final = 3
_GZIP_LEVEL: Final = 5
_GZIP_WINDOW: Final = 31
_OFF_LOOP_BYTES: Final = 65_536
# CARs hardly shrink, pictures are compressed already.
_TYPES: Final = frozenset(
    ("application/json", "application/javascript", "application/xml", "image/svg+xml")
)
_PARTIAL_CONTENT: Final = 206


class _Encoder(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _gzip() -> _Encoder:
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)


def _zstd() -> _Encoder:
    return zstandard.ZstdCompressor(_ZSTD_LEVEL).compressobj()


# In order of preference.
_ENCODERS: Final = {"zstd": _zstd, "gzip": _gzip}


def choose_encoding(accepted: str) -> str | None:
    """Return the encoding for a value of Accept-Encoding (RFC 9110, 12.5.3).

    None if the client prefers an uncompressed body, or an encoding we do not have.
    """
    weights: dict[str, float] = {}
    for part in accepted.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights[name] = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weights[name] = float(parameter[2:])
                except ValueError:
                    weights[name] = 0.0
    others = weights.get("*", 0.0)
    ranked = [(weights.get(name, others), name) for name in _ENCODERS]
    best = max(weight for weight, _ in ranked)
    if best <= 0 or best < weights.get("identity", 0.0):
        return None
    return next(name for weight, name in ranked if weight == best)


class CompressionMiddleware:
    """A middleware that compresses text over MIN_BYTES for clients that accept it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "HEAD":
            await self._app(scope, receive, send)
            return
        accepted = ",".join(Headers(scope=scope).getlist("accept-encoding"))
        encoding = choose_encoding(accepted) if accepted else None
        await self._app(scope, receive, _Answer(send, encoding).send)


class _Answer:
    """One response; its start waits for the first piece of its body."""

    def __init__(self, send: Send, encoding: str | None) -> None:
        self._send = send
        self._encoding = encoding
        self._start: Message | None = None
        self._encoder: _Encoder | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not _is_text(message):
                await self._send(message)
                return
            MutableHeaders(scope=message).add_vary_header("Accept-Encoding")
            if self._encoding is None:
                await self._send(message)
                return
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None:
            await self._begin(self._start, message)
            self._start = None
        elif message["type"] == "http.response.body" and self._encoder is not None:
            await self._send(await self._encoded(message))
        else:
            await self._send(message)

    async def _begin(self, start: Message, first: Message) -> None:
        more = first.get("more_body", False)
        if not more and len(first.get("body", b"")) < MIN_BYTES:
            await self._send(start)
            await self._send(first)
            return
        assert self._encoding is not None
        self._encoder = _ENCODERS[self._encoding]()
        encoded = await self._encoded(first)
        headers = MutableHeaders(scope=start)
        headers["Content-Encoding"] = self._encoding
        del headers["Content-Length"]
        if not more:
            headers["Content-Length"] = str(len(encoded["body"]))
        etag = headers.get("ETag")
        if etag is not None and not etag.startswith("W/"):
            headers["ETag"] = (
                f"W/{etag}"  # compressed bytes differ from the tagged ones
            )
        await self._send(start)
        await self._send(encoded)

    async def _encoded(self, message: Message) -> Message:
        body = message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _OFF_LOOP_BYTES:
            body = await anyio.to_thread.run_sync(self._encode, body, more)
        else:
            body = self._encode(body, more)
        return {**message, "body": body}

    def _encode(self, body: bytes, more: bool) -> bytes:
        assert self._encoder is not None
        encoded = self._encoder.compress(body)
        return encoded if more else encoded + self._encoder.flush()


def _is_text(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    if "content-encoding" in headers or start["status"] == _PARTIAL_CONTENT:
        return False
    if "no-transform" in headers.get("cache-control", ""):
        return False
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    return (
        media in _TYPES
        or media.endswith("+json")
        or (media.startswith("text/") and media != "text/event-stream")
    )
