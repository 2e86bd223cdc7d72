"""Batched lookups: keys requested while one batch runs form the next batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_KEYS: Final = 500


class Gathering(Generic[K, V]):
    """A cache-less batcher: `fetch` gets up to `limit` keys and returns those found.

    For one event loop at a time. The first caller does not wait for others.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]],
        *,
        limit: int = MAX_KEYS,
    ) -> None:
        self._fetch = fetch
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """Return the value of a key, None if there is none. Raises the error of
        `fetch`."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Keys of an earlier event loop have no waiting callers.
            self._loop, self._worker = loop, None
            self._waiting.clear()
        future = self._waiting.get(key)
        if future is None:
            future = loop.create_future()
            self._waiting[key] = future
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._work())
        # One of several callers may be cancelled.
        return await asyncio.shield(future)

    async def _work(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[: self._limit]
            asked = {key: self._waiting.pop(key) for key in keys}
            try:
                found = await self._fetch(keys)
            except BaseException as error:
                for future in asked.values():
                    if not future.cancelled():
                        future.set_exception(error)
                        # Mark it as retrieved: all callers may be cancelled.
                        future.exception()
                if isinstance(error, asyncio.CancelledError):
                    raise
                continue
            for key, future in asked.items():
                if not future.done():
                    future.set_result(found.get(key))
