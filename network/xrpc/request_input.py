"""Verb, parameters and body of a request, checked against the method's lexicon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

import anyio
from starlette.requests import Request

from network.errors import XrpcError
from network.server.admission import working
from network.xrpc.reply import JSON
from network.xrpc.request_body import read_body, stream_body
from protocol.data import json_form
from protocol.errors import InvalidRecordError, ProtocolError
from protocol.lexicon import Method
from protocol.limits import MAX_JSON_BYTES

AuthMode: TypeAlias = Literal["none", "optional", "required"]

# The least that a JSON body may have: room for fields that its lexicon does not name.
MIN_JSON_BYTES: Final = 8_192
# For methods without required auth, even if the lexicon allows more.
MAX_ANONYMOUS_JSON_BYTES: Final = 65_536
MAX_BLOB_BYTES: Final = 100_000_000
MAX_QUERY_CHARS: Final = 32_768
MAX_PARAMETERS: Final = 1_000
# Larger JSON is parsed in a thread, so that other requests do not wait for it.
_PARSED_AT_ONCE: Final = 65_536
_SHOWN_NAME: Final = 80


def max_body_bytes(method: Method, auth: AuthMode) -> int:
    """Return the cap of a method's body, by its lexicon and auth."""
    body = method.input
    if body is None:
        return MIN_JSON_BYTES
    if body.encoding != JSON:
        return MAX_BLOB_BYTES
    most = MAX_JSON_BYTES if auth == "required" else MAX_ANONYMOUS_JSON_BYTES
    return (
        most if body.largest is None else min(max(body.largest, MIN_JSON_BYTES), most)
    )


def check_verb(request: Request, kind: str) -> None:
    """Check the HTTP method. Raises XrpcError 405."""
    allowed = ("GET", "HEAD") if kind == "query" else ("POST",)
    if request.method not in allowed:
        raise XrpcError(
            "InvalidRequest",
            f"Incorrect HTTP method ({request.method}) expected {allowed[0]}",
            405,
            {"Allow": ", ".join(allowed)},
        )


def decode_params(query: bytes, method: Method) -> dict[str, Any]:
    """Return the parameters of a query string, typed by the lexicon."""
    try:
        return method.decode_params(_split_query(query))
    except ProtocolError as error:
        raise XrpcError("InvalidRequest", f"parameters: {error}") from error


def _split_query(query: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a query string, unescaped.

    Raises InvalidRecordError with the name of the parameter that is at fault.
    """
    pieces = [piece.partition(b"=")[::2] for piece in query.split(b"&")]
    if len(query) > MAX_QUERY_CHARS:
        name, _ = max(pieces, key=lambda piece: len(piece[1]))
        raise InvalidRecordError(_shown(name), "is too long")
    if len(pieces) > MAX_PARAMETERS:
        raise InvalidRecordError("", f"are more than {MAX_PARAMETERS}")
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        name = next((name for name, text in pieces if not _is_text(text)), b"")
        raise InvalidRecordError(_shown(name), "is not UTF-8") from None


def _is_text(value: bytes) -> bool:
    try:
        unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return False
    return value.isascii()


def _shown(name: bytes) -> str:
    return unquote(name[:_SHOWN_NAME].decode("ascii", "replace"))


async def read_input(
    request: Request, method: Method, max_bytes: int, parsing: anyio.CapacityLimiter
) -> Any:
    """Return the body as the method's lexicon has it; None for a query.

    Large JSON is parsed in a thread of `parsing`. Raises XrpcError.
    """
    if method.kind == "query":
        return None
    expected = method.input.encoding if method.input else None
    if expected is None:
        if await read_body(request, max_bytes):
            raise XrpcError("InvalidRequest", "the method takes no body")
        return None
    _check_encoding(request, expected)
    body = await read_body(request, max_bytes)
    if expected != JSON:
        return body
    if len(body) <= _PARSED_AT_ONCE:
        return _parse(body, method, max_bytes)
    async with working(request.scope):
        return await anyio.to_thread.run_sync(
            _parse, body, method, max_bytes, limiter=parsing
        )


def stream_input(
    request: Request, method: Method, max_bytes: int
) -> AsyncIterator[bytes]:
    """Return the body of a method as a stream of pieces. Raises XrpcError."""
    assert method.input is not None
    _check_encoding(request, method.input.encoding)
    return stream_body(request, max_bytes)


def _parse(body: bytes, method: Method, max_bytes: int) -> Any:
    try:
        value = json_form.loads(body, max_bytes=max_bytes, whole_as_int=True)
        method.check_input(value)
    except ProtocolError as error:
        raise XrpcError("InvalidRequest", f"body: {error}") from error
    return value


def _check_encoding(request: Request, expected: str) -> None:
    content_type = request.headers.get("content-type", "").partition(";")[0]
    content_type = content_type.strip().lower()
    if not content_type:
        raise XrpcError("InvalidRequest", f"Content-Type is missing, not {expected}")
    prefix, star, _ = expected.partition("*")
    if content_type != expected and not (star and content_type.startswith(prefix)):
        if expected == "*/*":
            return
        raise XrpcError(
            "InvalidRequest",
            f"Wrong request encoding (Content-Type): {content_type[:80]}",
        )
