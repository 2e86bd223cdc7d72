"""Bounded queues of slow work in threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from network.errors import XrpcError

T = TypeVar("T")


class WorkQueue:
    """A queue that runs `at_once` calls in threads and lets `waiting` more wait."""

    def __init__(self, at_once: int, waiting: int, busy: str) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._waiting = waiting
        self._busy = busy

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run one call. Raises XrpcError 503 with the text `busy` when too many
        wait."""
        if self._limiter.statistics().tasks_waiting >= self._waiting:
            raise XrpcError("NotEnoughResources", self._busy, 503, {"Retry-After": "2"})
        return await anyio.to_thread.run_sync(work, *args, limiter=self._limiter)
