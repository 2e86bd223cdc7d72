"""The bounded queue between the sockets and the gate thread.

Bounded by bytes: while it is full the readers stop, and TCP holds back the senders.
Hosts take turns, so that a flood delays only its own host.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


def _one_lane(_: object) -> Hashable:
    return None


class FrameQueue(Generic[T]):
    """A queue of items with a size in bytes, first in first out in each `lane`.

    The lanes have equal shares of what is taken.
    """

    def __init__(
        self, max_bytes: int, *, lane: Callable[[T], Hashable] = _one_lane
    ) -> None:
        self._max_bytes = max_bytes
        self._lane = lane
        # Lanes with items, in turn.
        self._lanes: OrderedDict[Hashable, deque[tuple[T, int]]] = OrderedDict()
        self._bytes = 0
        self._closed = False
        lock = threading.Lock()
        self._ready = threading.Condition(lock)
        # For a producer thread.
        self._space = threading.Condition(lock)
        self._room: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def size(self) -> int:
        """Return the bytes waiting."""
        return self._bytes

    async def put(self, item: T, size: int) -> None:
        """Add an item, waiting while the queue is full. Call from one loop only."""
        while True:
            with self._ready:
                if self._closed:
                    raise asyncio.CancelledError
                # An item over the whole bound must still pass when alone.
                if self._bytes + size <= self._max_bytes or not self._lanes:
                    self._push(item, size)
                    return
                if self._room is None:
                    self._room = asyncio.Event()
                    self._loop = asyncio.get_running_loop()
                room = self._room
            await room.wait()

    def put_batch(self, items: Iterable[tuple[T, int]]) -> None:
        """Add items from a thread, which waits while the queue is full.

        Not for a queue that an event loop fills too. Returns early when the queue is
        closed.
        """
        for item, size in items:
            with self._ready:
                while self._bytes + size > self._max_bytes and self._lanes:
                    if self._closed:
                        return
                    self._space.wait()
                self._push(item, size)

    def take(
        self, limit: int, timeout: float, *, most_bytes: int = sys.maxsize
    ) -> list[T] | None:
        """Take up to `limit` items, no more once they have `most_bytes`.

        Return [] after `timeout` seconds without any, None once closed and empty.
        """
        with self._ready:
            if not self._lanes and not self._closed:
                self._ready.wait(timeout)
            if not self._lanes:
                return None if self._closed else []
            taken: list[T] = []
            least = self._bytes - most_bytes
            while self._lanes and len(taken) < limit and self._bytes > least:
                self._take_turns(taken, limit, least)
            if self._bytes * 2 <= self._max_bytes:
                self._make_room()
            return taken

    def close(self) -> None:
        """Accept no more items; those inside can still be taken."""
        with self._ready:
            self._closed = True
            self._make_room()
            self._ready.notify_all()

    def _take_turns(self, taken: list[T], limit: int, least: int) -> None:
        """Take an equal share from each lane, up to `limit` items, until no more than
        `least` bytes are left."""
        share = max(1, (limit - len(taken)) // len(self._lanes))
        for lane in list(self._lanes):
            items = self._lanes[lane]
            for _ in range(min(share, len(items), limit - len(taken))):
                if self._bytes <= least:
                    break
                item, size = items.popleft()
                self._bytes -= size
                taken.append(item)
            if items:
                self._lanes.move_to_end(lane)
            else:
                del self._lanes[lane]
            if len(taken) >= limit or self._bytes <= least:
                return

    def _make_room(self) -> None:
        self._space.notify_all()
        if self._room is not None and self._loop is not None:
            room, self._room = self._room, None
            # A closed loop has no reader left to wake.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(room.set)

    def _push(self, item: T, size: int) -> None:
        lane = self._lane(item)
        items = self._lanes.get(lane)
        if items is None:
            items = self._lanes[lane] = deque()
        items.append((item, size))
        self._bytes += size
        if len(items) == 1 and len(self._lanes) == 1:
            self._ready.notify()
