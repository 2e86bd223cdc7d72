"""From the queue of frames to Postgres: two threads.

    readers -> FrameQueue -> gate thread -> bounded queue -> apply thread -> index

The gate thread verifies; the apply thread writes batches of events with their cursors.
A slow database fills the queues, and the readers stop.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from crawler.database import Database, StoppedError, is_transient
from crawler.live.followups import queue_followups
from crawler.live.frame_queue import FrameQueue
from crawler.live.gate import Gate
from crawler.live.gate_result import GateResult, ResetHost, count_strikes
from crawler.live.stream_state import Arrival, StreamState
from crawler.settings import MIB, CrawlSettings
from indexer.index_writer import BatchOutcome, IndexWriter
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent, CommitEvent, Event
from storage import cursors
from storage.drops import count_drops
from storage.hosts import host_rows, host_strikes
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.repos import quarantine, repo_rows
from storage.repos.resync_buffer import encode_commit

log = logging.getLogger(__name__)

_FRAMES_A_ROUND: Final = 256
_BYTES_A_ROUND: Final = 4 * MIB
_ROUNDS_WAITING: Final = 8
_BATCH_BYTES: Final = 2 * _BYTES_A_ROUND
_POLL: Final = 0.05


@dataclass(slots=True)
class PipelineStats:
    """Totals since the start, for metrics."""

    frames: int = 0
    events: int = 0
    applied: int = 0
    batches: int = 0
    apply_seconds: float = 0.0
    unchecked: int = 0
    drops: Counter[DropReason] = field(default_factory=Counter)


class Pipeline:
    """`start` it, `put` frames from the event loop, `stop` it.

    `on_desynchronized` and `on_identities` are called from a thread when there are
    repos to fetch or identities to resolve.
    """

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        index: IndexWriter,
        gate: Gate,
        *,
        shard: int = 0,
        on_desynchronized: Callable[[], None] = lambda: None,
        on_identities: Callable[[], None] = lambda: None,
    ) -> None:
        self.stats = PipelineStats()
        self.failure: BaseException | None = None
        self._settings = settings
        self._database = database
        self._index = index
        self._gate = gate
        self._shard = shard
        self._on_desynchronized = on_desynchronized
        self._on_identities = on_identities
        self._frames: FrameQueue[Arrival | ResetHost] = FrameQueue(
            settings.queue_bytes, lane=_host_of
        )
        self._results: queue.Queue[GateResult | None] = queue.Queue(_ROUNDS_WAITING)
        self._stopping = threading.Event()
        self._streams: dict[int, StreamState] = {}
        self._handled: Counter[int] = Counter()
        self._drops: Counter[tuple[DropReason, int]] = Counter()
        self._flushed_at = time.monotonic()
        self._threads = [
            threading.Thread(target=self._guard, args=(self._judge_frames,)),
            threading.Thread(target=self._guard, args=(self._apply_batches,)),
        ]

    @property
    def queued_bytes(self) -> int:
        """Return the bytes of frames that wait for the gate."""
        return self._frames.size

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def add_stream(self, stream: StreamState) -> None:
        """Register a stream; its progress is written to its host's row."""
        self._streams[stream.host] = stream

    async def put(self, stream: StreamState, raw: bytes) -> None:
        """Queue one frame; waits while the queue is full."""
        await self._frames.put(Arrival(stream, raw), len(raw))

    def put_batch(self, arrivals: Sequence[tuple[Arrival | ResetHost, int]]) -> None:
        """Queue frames with their sizes from a thread; wait as `put` does."""
        self._frames.put_batch(arrivals)

    async def reset(self, host: int) -> None:
        """Forget a host's cursor, once the frames before this call are judged."""
        await self._frames.put(ResetHost(host), 0)

    async def finish(self) -> None:
        """Call `stop` without blocking the event loop."""
        await asyncio.to_thread(self.stop)

    def stop(self, timeout: float = 30.0) -> None:
        """Apply what is queued, then end. A timeout loses nothing: cursors cover only
        applied frames."""
        self._stopping.set()
        self._frames.close()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._database.stop()
            for thread in self._threads:
                thread.join(5.0)

    def _guard(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except StoppedError:
            return
        except BaseException as error:
            # A bug: the process must exit, not stall.
            self.failure = error
            log.exception("pipeline_failed")
            raise

    # the gate thread

    def _judge_frames(self) -> None:
        try:
            while True:
                arrivals = self._frames.take(
                    _FRAMES_A_ROUND, _POLL, most_bytes=_BYTES_A_ROUND
                )
                if arrivals is None:
                    return
                if not arrivals:
                    continue
                result = self._gate.take(arrivals)
                frames = [a.raw for a in arrivals if isinstance(a, Arrival)]
                result.size = sum(len(raw) for raw in frames if raw is not None)
                self._results.put(result)
                self.stats.frames += len(arrivals)
        finally:
            self._results.put(None)

    # the apply thread

    def _apply_batches(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._gather()
            if batch.events or batch.marks or batch.has_followups:
                self._apply(batch)
            self._handled.update(batch.handled)
            self._drops.update(batch.drops)
            if ended or time.monotonic() - self._flushed_at >= (
                self._settings.flush_interval
            ):
                self._flush()

    def _gather(self) -> tuple[GateResult, bool]:
        """Wait for a batch of results; return it, and True after the last one."""
        batch, deadline = GateResult(), None
        most = self._settings.batch_events
        while len(batch.events) < most and batch.size < _BATCH_BYTES:
            wait = self._settings.flush_interval
            if deadline is not None:
                wait = max(0.0, deadline - time.monotonic())
            try:
                result = self._results.get(timeout=wait)
            except queue.Empty:
                break
            if result is None:
                return batch, True
            if deadline is None:
                deadline = time.monotonic() + self._settings.batch_wait
            if result.resets:
                # Earlier frames must not bring the old cursor back.
                self._apply(batch)
                batch = GateResult(handled=batch.handled, drops=batch.drops)
                self._forget_cursors(result.resets)
            batch.merge(result)
        return batch, False

    def _forget_cursors(self, resets: Mapping[int, int | None]) -> None:
        def forget(conn: Conn) -> None:
            for host, behind in sorted(resets.items()):
                if behind is None:
                    cursors.forget_cursor(conn, host)
                else:
                    cursors.put_back(conn, host, behind, shard=self._shard)

        self._database.run(forget)

    def _apply(self, batch: GateResult) -> None:
        if batch.has_followups:
            # Before the cursor moves on: a crash in between only repeats this.
            self._database.run(
                lambda conn: queue_followups(
                    conn, batch, cooldown=self._settings.account_cooldown
                )
            )
            crashpoint(Crashpoint.DOUBTS_QUEUED)
            if batch.identities_to_refresh or batch.lookups:
                self._on_identities()
        started = time.monotonic()
        result = self._apply_events(batch.events, batch.marks)
        self.stats.apply_seconds += time.monotonic() - started
        self.stats.batches += 1
        self.stats.events += len(batch.events)
        self.stats.unchecked += sum(
            event.unchecked for event in batch.events if type(event) is CommitEvent
        )
        back = [e.did for e in batch.events if type(e) is AccountEvent and e.active]
        if back:
            self._database.run(lambda conn: repo_rows.wake_repos(conn, back))
        behind = bool(batch.to_resync)
        if result is not None:
            self.stats.applied += result.applied
            behind = behind or bool(result.desynchronized)
        if behind:
            self._on_desynchronized()

    def _apply_events(
        self, events: Sequence[Event], marks: Mapping[int, int]
    ) -> BatchOutcome | None:
        try:
            return self._database.persist(lambda: self._index.apply(events, marks))
        except StoppedError:
            raise
        except Exception as error:
            # One event that cannot be applied must not stop all others.
            if is_transient(error):
                raise
            log.exception("batch_failed", extra={"events": len(events)})
            self._apply_without_poison(events, marks, error)
            return None

    def _apply_without_poison(
        self, events: Sequence[Event], marks: Mapping[int, int], error: Exception
    ) -> None:
        """Halve the batch until the failing event is alone, and quarantine that."""
        if not events:
            raise error
        if len(events) == 1:
            self._quarantine(events[0], error)
            self._apply_events((), marks)
            return
        middle = len(events) // 2
        self._apply_events(events[:middle], {})
        self._apply_events(events[middle:], marks)

    def _quarantine(self, event: Event, error: Exception) -> None:
        frame = encode_commit(event) if type(event) is CommitEvent else b""

        def put(conn: Conn) -> None:
            quarantine.put_frame(conn, event.host, event.seq, frame, repr(error))
            repo_rows.mark_desynchronized(conn, [event.did], "an event was set aside")

        self._database.run(put)
        self._drops[DropReason.QUARANTINED, event.host] += 1

    def _flush(self) -> None:
        """Write the counts of events and drops. They may lag."""
        self._flushed_at = time.monotonic()
        if not self._handled and not self._drops:
            return
        handled, drops = self._handled, self._drops
        for (reason, _), count in drops.items():
            self.stats.drops[reason] += count
        newest = {host: self._newest(host) for host in handled}
        strikes = count_strikes(drops.items())

        def write(conn: Conn) -> None:
            host_rows.note_events(conn, {h: (n, newest[h]) for h, n in handled.items()})
            count_drops(
                conn, {(reason.value, host): n for (reason, host), n in drops.items()}
            )
            for host, count in sorted(strikes.items()):
                host_strikes.add_strikes(
                    conn,
                    host,
                    count,
                    limit=self._settings.strike_limit,
                    wait=self._settings.throttle_time,
                )

        self._database.run(write)
        self._handled, self._drops = Counter(), Counter()

    def _newest(self, host: int) -> datetime | None:
        stream = self._streams.get(host)
        if stream is None or stream.newest is None:
            return None
        try:
            newest = datetime.fromisoformat(stream.newest[:64])
        except ValueError:
            return None
        return newest if newest.tzinfo is not None else None


def _host_of(item: Arrival | ResetHost) -> int:
    return item.stream.host if isinstance(item, Arrival) else item.host
