"""Spooled responses: written in full before they are sent, to memory, then to a file.

A slow reader therefore holds a file, but no database connection and no thread.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from network.errors import XrpcError
from network.server.client_watch import ClientGoneError
from network.server.rate_limit import uncount

_CHUNK_BYTES: Final = 262_144
_WAIT_S: Final = 5.0
_RETRY_S: Final = 10
# A reader has a minute plus the time that its spool takes at this speed.
_GRACE_S: Final = 60.0
_BYTES_PER_S: Final = 8_192


class ReaderTooSlowError(Exception):
    """A response that was not read in time."""


class Spooler:
    """The spools of one server.

    At most `writing` are written at once and `held` are kept for their readers,
    `per_client` of them for one client, `total` bytes together. One over `memory` bytes
    is an unnamed file in `folder` (default: the system's).
    """

    def __init__(
        self,
        *,
        writing: int = 4,
        held: int = 64,
        per_client: int = 8,
        memory: int = 4 * 1024 * 1024,
        total: int = 2 * 1024**3,
        folder: Path | None = None,
    ) -> None:
        self._writing = anyio.CapacityLimiter(writing)
        self._threads = anyio.CapacityLimiter(2 * writing)
        self._held = held
        self._per_client = per_client
        self._memory = memory
        self._total = total
        self._folder = folder
        self._clients: Counter[str] = Counter()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Return the number of spools that are written or read now."""
        return self._clients.total()

    async def fill(
        self,
        client: str,
        write: Callable[[Spool], None],
        is_client_gone: Callable[[], bool] = lambda: False,
    ) -> SpoolReader:
        """Run `write(spool)` in a thread; return the reader of the result.

        `client` is the key of shares. Writing stops when the client disconnects. Raises
        XrpcError 429 if the client has its share of spools, 503 if all are in use.
        """
        spool = self._open(client, is_client_gone)
        try:
            # Waiting here holds neither a thread nor a connection.
            try:
                async with asyncio.timeout(_WAIT_S):
                    await self._writing.acquire_on_behalf_of(spool)
            except TimeoutError:
                raise _no_room() from None
            try:
                await anyio.to_thread.run_sync(write, spool, limiter=self._threads)
            finally:
                self._writing.release_on_behalf_of(spool)
        except BaseException:
            spool.close()
            raise
        return SpoolReader(spool, self._threads)

    async def collect(
        self,
        client: str,
        chunks: AsyncIterable[bytes],
        is_client_gone: Callable[[], bool] = lambda: False,
    ) -> SpoolReader:
        """Write the chunks of another server; return the reader of the result.

        Raises as `fill` does. The source must bound time and size: a slow one holds a
        spool, but no thread.
        """
        spool = self._open(client, is_client_gone)
        try:
            async for chunk in chunks:
                await anyio.to_thread.run_sync(
                    spool.write, chunk, limiter=self._threads
                )
        except BaseException:
            spool.close()
            raise
        return SpoolReader(spool, self._threads)

    def _open(self, client: str, is_client_gone: Callable[[], bool]) -> Spool:
        if self._clients[client] >= self._per_client:
            raise XrpcError(
                "RateLimitExceeded",
                "Too many downloads at once",
                429,
                {"Retry-After": str(_RETRY_S)},
            )
        if self.held >= self._held or self._bytes >= self._total:
            raise _no_room()
        self._clients[client] += 1
        return Spool(self, client, self._memory, self._folder, is_client_gone)

    def _take(self, size: int) -> None:
        with self._lock:
            if self._bytes + size > self._total:
                raise _no_room()
            self._bytes += size

    def _release(self, client: str, size: int) -> None:
        with self._lock:
            self._bytes -= size
        uncount(self._clients, client)


class Spool:
    """One response while it is written and read. Close it."""

    def __init__(
        self,
        spooler: Spooler,
        client: str,
        memory: int,
        folder: Path | None,
        is_client_gone: Callable[[], bool],
    ) -> None:
        self.size = 0
        self._spooler = spooler
        self._client = client
        self._closed = False
        self._is_client_gone = is_client_gone
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            max_size=memory, dir=None if folder is None else str(folder)
        )

    def write(self, piece: bytes) -> None:
        """Append a piece.

        Raises ClientGoneError, or XrpcError 503 if all spools together are too large.
        """
        if self._is_client_gone():
            raise ClientGoneError
        self._spooler._take(len(piece))
        self.size += len(piece)
        self._file.write(piece)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    def rewind(self) -> None:
        self._file.seek(0)

    def read(self) -> bytes:
        """Return the next chunk, b"" at the end."""
        return self._file.read(_CHUNK_BYTES)

    def close(self) -> None:
        """Remove the spool. For the event loop's thread only."""
        if not self._closed:
            self._closed = True
            self._file.close()
            self._spooler._release(self._client, self.size)


class SpoolReader(AsyncIterator[bytes]):
    """The chunks of a spool, which is closed at the end or by `aclose`.

    Raises ReaderTooSlowError for a reader that takes too long.
    """

    def __init__(self, spool: Spool, threads: anyio.CapacityLimiter) -> None:
        self.size = spool.size
        self._spool = spool
        self._threads = threads
        self._deadline = 0.0

    async def __anext__(self) -> bytes:
        now = asyncio.get_running_loop().time()
        if not self._deadline:
            self._deadline = now + _GRACE_S + self.size / _BYTES_PER_S
            self._spool.rewind()
        if now > self._deadline:
            await self.aclose()
            raise ReaderTooSlowError
        chunk = await anyio.to_thread.run_sync(self._spool.read, limiter=self._threads)
        if not chunk:
            await self.aclose()
            raise StopAsyncIteration
        return chunk

    def pieces(self) -> Iterator[bytes]:
        """Yield the chunks for a thread of this process; the spool stays open."""
        self._spool.rewind()
        while chunk := self._spool.read():
            yield chunk

    async def aclose(self) -> None:
        self._spool.close()


def _no_room() -> XrpcError:
    return XrpcError(
        "ServiceUnavailable",
        "too many downloads in progress",
        503,
        {"Retry-After": str(_RETRY_S)},
    )
