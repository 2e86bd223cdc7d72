"""One reader of an event source for all followers: a ring of recent events.

A follower holds a position, not a queue. Behind the ring it reads the source page by
page; the source is read once for all followers at the tip.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections.abc import Sequence, Sized
from typing import Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Sized)
E_co = TypeVar("E_co", bound=Sized, covariant=True)


class EventSource(Protocol[E_co]):
    """A log of events with rising sequence numbers, kept for a window of time.

    The length of an event is its size in bytes.
    """

    async def tail(self) -> int:
        """Return the highest sequence number, 0 if there is none."""
        ...

    async def oldest(self) -> int:
        """Return the lowest stored sequence number.

        If none is stored: 0, or the next number if events were pruned.
        """
        ...

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, E_co]]:
        """Return about `limit` (seq, event) above `seq`, in order; empty for none."""
        ...


class Ring(Generic[E]):
    """The recent events, bounded by number and by bytes; `floor` is just below them."""

    def __init__(self, floor: int, max_events: int, max_bytes: int) -> None:
        self.floor = floor
        self.last = floor
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._seqs: list[int] = []
        self._events: list[E] = []
        self._bytes = 0

    def extend(self, events: Sequence[tuple[int, E]]) -> None:
        """Append events; drop the oldest over the bounds."""
        for seq, event in events:
            self._seqs.append(seq)
            self._events.append(event)
            self._bytes += len(event)
        self.last = self._seqs[-1]
        drop = 0
        while (
            len(self._seqs) - drop > self._max_events or self._bytes > self._max_bytes
        ) and drop < len(self._seqs) - 1:
            self._bytes -= len(self._events[drop])
            drop += 1
        if drop:
            self.floor = self._seqs[drop - 1]
            del self._seqs[:drop], self._events[:drop]

    def skip(self, floor: int) -> None:
        """Restart behind `floor`: earlier events are lost."""
        self._seqs.clear()
        self._events.clear()
        self._bytes = 0
        self.floor = self.last = floor

    def after(self, seq: int, limit: int) -> list[tuple[int, E]]:
        """Return at most `limit` of the events above `seq`."""
        start = bisect_right(self._seqs, seq)
        stop = start + limit
        return list(zip(self._seqs[start:stop], self._events[start:stop], strict=True))


class TooSlowError(Exception):
    """A follower that does not keep up."""


class EventFeed(Generic[E]):
    """The feed of any number of followers; reads only while there is one.

    The source is read every `poll` seconds even without `wake`, for events that another
    process wrote.
    """

    def __init__(
        self,
        source: EventSource[E],
        *,
        poll: float = 1.0,
        page: int = 200,
        ring_events: int = 5_000,
        ring_bytes: int = 64_000_000,
    ) -> None:
        self.source = source
        self.page = page
        self.followers = 0
        self._poll = poll
        self._limits = (ring_events, ring_bytes)
        self._ring: Ring[E] | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._grown = asyncio.Event()

    def wake(self) -> None:
        """Announce new events. Safe in threads."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(self._woken.set)

    async def join(self) -> Ring[E]:
        """Start to follow. Every call needs a `leave`, even if it fails."""
        self.followers += 1
        if self._ring is None:
            tail = await self.source.tail()
            # Another follower may have set it meanwhile.
            if self._ring is None:
                self._ring = Ring(tail, *self._limits)
        if self._feeder is None or self._feeder.done():
            self._loop = asyncio.get_running_loop()
            self._feeder = asyncio.create_task(self._feed(self._ring))
        return self._ring

    def leave(self) -> None:
        """Stop following; the last follower stops the reading."""
        self.followers -= 1
        if self.followers == 0:
            if self._feeder is not None:
                self._feeder.cancel()
            self._feeder = self._ring = None

    async def next_events(
        self, ring: Ring[E], position: int, *, live: bool
    ) -> tuple[Sequence[tuple[int, E]], bool]:
        """Wait for events above `position`; return them, and True if they are live.

        Raises TooSlowError for a follower that was `live` and fell behind the ring.
        Raises it also if the source has pruned the next events: a gap is never skipped.
        """
        while True:
            grown = self._grown
            floor = ring.floor
            if position >= floor:
                live = True
                events: Sequence[tuple[int, E]] = ring.after(position, self.page)
            elif live:
                raise TooSlowError
            else:
                events = await self.source.events_after(position, self.page)
                if await self.source.oldest() > position + 1:
                    raise TooSlowError
            if events:
                return events, live
            if live:
                await grown.wait()
            else:
                # The source has nothing up to the floor that the ring had before.
                position = floor

    async def _feed(self, ring: Ring[E]) -> None:
        while True:
            self._woken.clear()
            try:
                events = await self.source.events_after(ring.last, self.page)
                oldest = await self.source.oldest() if events else 0
            except Exception:
                # The database may be away for a while; followers wait.
                log.exception("event source failed")
                events = ()
            if events:
                if oldest > ring.last + 1:
                    ring.skip(oldest - 1)
                ring.extend(events)
                self._grown.set()
                self._grown = asyncio.Event()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._woken.wait()
