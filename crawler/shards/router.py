"""Distribution of the frames of all streams to shards by account.

    readers -> router -> (socket pair) -> shard 0 … shard N-1, each a process

Only the account and the number of a frame are read. Every frame travels with the
position of its stream ahead of it, and idle shards get the position regularly. So a
stream resumes from the lowest position that its shards committed. A slow shard fills
its channel, and the readers stop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from crawler.backoff import full_jitter
from crawler.database import Database
from crawler.live.pipeline import PipelineStats
from crawler.live.stream_state import StreamState
from crawler.shards.shard_link import ShardLink, StartShard
from crawler.shards.shard_wire import (
    Kind,
    OpenStream,
    StreamFault,
    Throttled,
    Wake,
    shard_of,
)
from protocol.errors import ProtocolError
from protocol.events.frames import peek_frame
from protocol.limits import MAX_SEQ
from storage import cursors

log = logging.getLogger(__name__)

_FLUSH_EVERY: Final = 0.01
_MARK_EVERY: Final = 0.25
_STEADY_AFTER: Final = 60.0
_LONGEST_PAUSE: Final = 10.0


@dataclass(slots=True)
class _Routed:
    """A stream and its number in the shards. `based`: each shard has a cursor of it;
    `marked`: the position that all shards know."""

    number: int
    state: StreamState
    opened: bool = False
    based: bool = True
    marked: int = 0


class Router:
    """The `Intake` of a crawler with shards. Lives on the event loop.

    `wake` is called when shards have left work for other parts of the crawler.
    """

    def __init__(
        self,
        shards: int,
        start: StartShard,
        database: Database,
        *,
        wake: Callable[[Wake], None],
    ) -> None:
        self.broken = asyncio.Event()
        self._start = start
        self._database = database
        self._wake = wake
        self._shards = shards
        self._links = [self._make_link(number) for number in range(shards)]
        self._numbers = itertools.count(1)
        self._streams: dict[int, _Routed] = {}
        self._renumbered: set[int] = set()
        self._restarts = 0
        self._restarted_at = float("-inf")
        self._before = PipelineStats()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> list[int | None]:
        """Return the process ids of the shards."""
        return [link.pid for link in self._links]

    @property
    def stats(self) -> PipelineStats:
        """Return the totals of all shards, with those that ended."""
        return _add(self._before, *(link.latest.stats for link in self._links))

    @property
    def failure(self) -> BaseException | None:
        """Return None: a shard that fails is restarted."""
        return None

    @property
    def queued_bytes(self) -> int:
        """Return the bytes on their way to the shards, and those in their queues."""
        return sum(link.queued_bytes for link in self._links)

    async def open(self) -> None:
        """Start the shards."""
        for link in self._links:
            await link.open()
        for work in (self._flush, self._mark):
            self._tasks.append(asyncio.create_task(work()))

    async def revive(self) -> None:
        """Restart the shards that ended. No stream may be read meanwhile: their
        uncommitted frames must come again."""
        # Readers open their streams again. A new shard knows none before.
        self._streams.clear()
        now = asyncio.get_running_loop().time()
        if now - self._restarted_at > _STEADY_AFTER:
            self._restarts = 0
        self._restarts += 1
        self._restarted_at = now
        await asyncio.sleep(full_jitter(self._restarts, base=0.1, cap=_LONGEST_PAUSE))
        self.broken.clear()
        for number, link in enumerate(self._links):
            if link.ended:
                await link.close()
                self._before = _add(self._before, link.latest.stats)
                fresh = self._links[number] = self._make_link(number)
                await fresh.open()
                log.warning("shard_restarted", extra={"shard": number})

    def add_stream(self, stream: StreamState) -> None:
        number = next(self._numbers)
        routed = _Routed(number, stream, based=not stream.from_tip)
        self._streams[stream.host] = routed

    async def reset(self, host: int) -> None:
        self._renumbered.add(host)

    async def put(self, stream: StreamState, raw: bytes) -> None:
        try:
            did, seq = peek_frame(raw)
        except ProtocolError:
            # Frames without an account go to the first shard.
            did = seq = None
        before = stream.last_seq
        fresh = seq is not None and before < seq <= MAX_SEQ
        if seq is not None and not fresh and seq == stream.resumed_at:
            # Some hosts repeat the frame at the cursor.
            return
        routed = self._streams.get(stream.host)
        if fresh and seq is not None and routed is not None and not routed.based:
            await self._base(routed, seq - 1)
            routed = self._streams.get(stream.host)
        if routed is None or routed.state is not stream or stream.fault is not None:
            return
        if not routed.opened:
            self._open(routed)
        if fresh and seq is not None:
            if stream.host in self._renumbered:
                self._renumbered.discard(stream.host)
                for link in self._links:
                    link.add(Kind.RESET, routed.number, seq - 1)
            stream.last_seq = seq
        link = self._links[0 if did is None else shard_of(did, self._shards)]
        # No await since the position was read: a mark in between would skip this
        # frame.
        link.add(Kind.FRAME, routed.number, before, raw)
        await link.drain()

    async def finish(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(link.finish() for link in self._links))

    def _make_link(self, number: int) -> ShardLink:
        return ShardLink(number, self._start, self._hear, self.broken.set)

    async def _base(self, routed: _Routed, seq: int) -> None:
        """Give every shard a cursor of a stream that begins at its tip: a shard without
        one would not be waited for."""
        host = routed.state.host
        await asyncio.to_thread(
            self._database.run,
            lambda conn: cursors.start_stream(conn, host, seq, shards=self._shards),
        )
        routed.based = True

    def _open(self, routed: _Routed) -> None:
        state = routed.state
        opened = OpenStream(
            state.host, state.hostname, state.relay, state.trusted, state.last_seq
        )
        for link in self._links:
            link.add_stream(routed.number, opened)
        routed.opened = True
        routed.marked = state.last_seq

    def _hear(self, link: ShardLink, message: Any) -> None:
        if type(message) is Wake:
            self._wake(message)
        elif type(message) is StreamFault:
            for routed in self._streams.values():
                if routed.number == message.stream and routed.state.fault is None:
                    routed.state.last_seq = message.last_seq
                    routed.state.fail(message.fault, message.detail)
        elif type(message) is Throttled:
            for routed in self._streams.values():
                if routed.number == message.stream:
                    routed.state.throttled += message.frames
        else:
            raise TypeError(f"shard {link.number} said {message!r}")

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_EVERY)
            for link in self._links:
                link.flush()

    async def _mark(self) -> None:
        """Send every shard the positions of the streams that moved."""
        while True:
            await asyncio.sleep(_MARK_EVERY)
            for routed in self._streams.values():
                state = routed.state
                if (
                    routed.opened
                    and routed.marked < state.last_seq
                    and state.fault is None
                ):
                    routed.marked = state.last_seq
                    for link in self._links:
                        link.add(Kind.MARK, routed.number, state.last_seq)


def _add(*parts: PipelineStats) -> PipelineStats:
    total = PipelineStats(drops=Counter())
    for part in parts:
        total.frames += part.frames
        total.events += part.events
        total.applied += part.applied
        total.batches += part.batches
        total.apply_seconds += part.apply_seconds
        total.unchecked += part.unchecked
        total.drops.update(part.drops)
    return total
