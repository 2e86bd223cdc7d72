"""Large answers, written in full before they are sent: in memory, then in a temp file.

So a slow reader holds neither a database connection nor a thread, only a file.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Final, Protocol

import anyio
import anyio.to_thread

from network.errors import XrpcError
from network.request_guard import client_key

_CHUNK_BYTES: Final = 262_144
_READERS: Final = 8
_WAIT_S: Final = 5.0
_GRACE_S: Final = 60.0
_BYTES_PER_S: Final = 8_192
_RETRY_S: Final = 10


class ReaderTooSlowError(Exception):
    """An answer that was not read in its time."""


class Asked(Protocol):
    """What a `Call` tells of its request."""

    @property
    def scope(self) -> object: ...


class Spooler:
    """Spools of one server.

    At most `writing` are written at once; `held` are kept for their readers, `per_client`
    of them for one, with `total` bytes together. A spool over `memory` bytes is a file
    without a name in `folder` (default: that of the system). A reader has a minute and
    what 8 kB a second take.
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
        self._reading = anyio.CapacityLimiter(_READERS)
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
        """Spools that are written or read now."""
        return self._clients.total()

    async def fill(
        self, client: str, write: Callable[[IO[bytes]], None]
    ) -> SpooledBody:
        """Return what `write(file)` writes, in a thread.

        Raises XrpcError 429 if the client has its share of spools, 503 if there is no
        room.
        """
        if self._clients[client] >= self._per_client:
            raise XrpcError(
                "RateLimitExceeded",
                "Too many downloads at once",
                429,
                {"Retry-After": str(_RETRY_S)},
            )
        if self.held >= self._held or self._bytes >= self._total:
            raise _no_room()
        spool = _Spool(self, client)
        self._clients[client] += 1
        try:
            await self._write(spool, write)
        except BaseException:
            spool.close()
            raise
        return SpooledBody(spool, self._reading)

    async def _write(self, spool: _Spool, write: Callable[[IO[bytes]], None]) -> None:
        # Whoever waits here has nothing in hand yet.
        with anyio.move_on_after(_WAIT_S):
            await self._writing.acquire_on_behalf_of(spool)
            try:
                with anyio.CancelScope(shield=False) as scope:
                    scope.deadline = math.inf
                    await anyio.to_thread.run_sync(spool.fill, write)
            finally:
                self._writing.release_on_behalf_of(spool)
