"""The one bounded queue between the sockets and the verifier thread.

Bounded by bytes: when it is full the readers stop reading, and TCP tells the
sender. Producers live on the event loop, the consumer is a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class FrameQueue(Generic[T]):
    """A first-in first-out queue of items with a size in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._urgent: deque[T] = deque()
        self._bytes = 0
        self._closed = False
        lock = threading.Lock()
        self._ready = threading.Condition(lock)
        # For a thread that fills it; the same lock.
        self._space = threading.Condition(lock)
        self._room: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def size(self) -> int:
        """Bytes waiting."""
        return self._bytes

    async def put(self, item: T, size: int) -> None:
        """Add an item, waiting while the queue is full. Call from one loop only."""
        while True:
            with self._ready:
                if self._closed:
                    raise asyncio.CancelledError
                # An item over the whole bound must still pass when alone.
                if self._bytes + size <= self._max_bytes or not self._items:
                    self._push(item, size)
                    return
                if self._room is None:
                    self._room = asyncio.Event()
                    self._loop = asyncio.get_running_loop()
                room = self._room
            await room.wait()

    def put_batch(self, items: Iterable[tuple[T, int]]) -> None:
        """Add items from a thread that may wait while the queue is full.

        For a queue that is not filled from an event loop as well. Returns early, with
        items left over, when the queue is closed.
        """
        for item, size in items:
            with self._ready:
                while self._bytes + size > self._max_bytes and self._items:
                    if self._closed:
                        return
                    self._space.wait()
                self._push(item, size)

    def put_now(self, item: T) -> None:
        """Add a small control item from any thread: ahead of all, whatever the fill."""
        with self._ready:
            self._urgent.append(item)
            self._ready.notify()

    def take(
        self, limit: int, timeout: float, *, urgent_only: bool = False
    ) -> list[T] | None:
        """Take up to `limit` items, and every urgent one first.

        [] after `timeout` seconds without any, None once closed and empty. With
        `urgent_only` the others are left, which in time stops the readers.
        """
        with self._ready:
            waiting = self._urgent or (self._items and not urgent_only)
            if not waiting and not self._closed:
                self._ready.wait(timeout)
            taken = list(self._urgent)
            self._urgent.clear()
            if urgent_only:
                return taken
            if not self._items and not taken:
                return None if self._closed else []
            while self._items and len(taken) < limit:
                item, size = self._items.popleft()
                self._bytes -= size
                taken.append(item)
            if self._bytes * 2 <= self._max_bytes:
                self._make_room()
            return taken

    def close(self) -> None:
        """Take no more items; what is inside can still be taken."""
        with self._ready:
            self._closed = True
            self._make_room()
            self._ready.notify_all()

    def _make_room(self) -> None:
        self._space.notify_all()
        if self._room is not None and self._loop is not None:
            room, self._room = self._room, None
            # A closed loop has no reader left to wake.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(room.set)

    def _push(self, item: T, size: int) -> None:
        self._items.append((item, size))
        self._bytes += size
        if len(self._items) == 1:
            self._ready.notify()
