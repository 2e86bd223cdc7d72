"""Responses of other servers: whole or in chunks, and failures as NetworkError."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from multidict import CIMultiDictProxy

from network.errors import (
    BadResponseError,
    ForbiddenAddressError,
    NetworkError,
    TimedOutError,
    TooLargeError,
    UnreachableError,
)
from network.http.guarded_connector import ForbiddenSocketError
from network.http.inflate import BodyReader
from network.http.policy import Policy
from network.http.urls import Target
from protocol.data import json_form
from protocol.errors import ProtocolError

EXCERPT_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole response; `url` is its source after redirects."""

    url: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """Return the body as strict JSON. Raises BadResponseError."""
        try:
            # The size was capped when the body was read.
            return json_form.loads(self.body, max_bytes=len(self.body))
        except ProtocolError as error:
            raise BadResponseError(
                f"{self.url} did not send JSON: {error}",
                self.status,
                self.body[:EXCERPT_BYTES],
            ) from error


class Streamed:
    """A response whose body is read once, in chunks: `async for chunk in streamed`."""

    def __init__(
        self,
        target: Target,
        response: aiohttp.ClientResponse,
        max_bytes: int,
        policy: Policy,
        clock: Callable[[], float],
    ) -> None:
        self.url = str(target)
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._max_bytes = max_bytes
        self._policy = policy
        self._clock = clock

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = _open_body(self._response, self._max_bytes)
        waited, received = 0.0, 0
        window = self._policy.floor_window
        while True:
            # Only the time spent waiting for the peer counts, not a slow consumer.
            before = self._clock()
            try:
                async with asyncio.timeout(window):
                    chunk = await self._response.content.readany()
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                raise translate_error(error, self.url) from error
            waited += self._clock() - before
            received += len(chunk)
            if not chunk:
                break
            if waited >= window:
                if received < self._policy.floor_bytes_per_s * window:
                    raise TimedOutError(f"{self.url} sends too slowly")
                waited, received = 0.0, 0
            for piece in reader.feed(chunk):
                yield piece
        reader.finish()


def _open_body(response: aiohttp.ClientResponse, max_bytes: int) -> BodyReader:
    length = response.content_length
    if length is not None and length > max_bytes:
        raise TooLargeError(f"body of {length} bytes is over {max_bytes}")
    encoding = response.headers.get("Content-Encoding", "")
    return BodyReader(encoding, max_bytes, response.status)


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    reader = _open_body(response, max_bytes)
    pieces: list[bytes] = []
    while chunk := await response.content.readany():
        pieces += reader.feed(chunk)
    reader.finish()
    return b"".join(pieces)


def translate_error(error: BaseException, url: str) -> NetworkError:
    """Return the NetworkError for an exception of aiohttp or the socket."""
    if isinstance(error, NetworkError):
        return error
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ForbiddenSocketError
    ):
        return ForbiddenAddressError(str(error.os_error))
    if isinstance(error, TimeoutError):
        return TimedOutError(f"{url} was too slow")
    if isinstance(error, aiohttp.InvalidURL):
        return ForbiddenAddressError(f"not a URL that may be fetched: {url[:200]!r}")
    if isinstance(error, aiohttp.ClientResponseError):
        return BadResponseError(f"{url}: {error.message}", error.status)
    return UnreachableError(f"{url}: {type(error).__name__}: {error}")
