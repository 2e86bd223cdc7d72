"""One shard: a process that verifies and applies the accounts of one hash.

Frames come from the router. Without its router it exits at once; uncommitted frames
come again.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from crawler.database import Database
from crawler.live.gate import Gate
from crawler.live.gate_result import ResetHost
from crawler.live.pipeline import Pipeline
from crawler.live.stream_state import Arrival, StreamState
from crawler.settings import MIB, CrawlSettings
from crawler.shards.shard_wire import (
    Kind,
    MessageReader,
    OpenStream,
    ShardStats,
    StreamFault,
    Throttled,
    Wake,
    pack_control,
)
from indexer.index_writer import IndexWriter

log = logging.getLogger(__name__)

_CHUNK: Final = 256 * 1024
_STATS_EVERY: Final = 0.5
# While the gate has enough to do, the channel is read in larger pieces: each wake-up
# of this thread takes the interpreter from the gate.
_BEHIND_BYTES: Final = 2 * MIB
_BURST_PAUSE: Final = 0.005


class Shard:
    """Call `run`; it blocks until the router sends the end.

    `index` writes on a connection that holds the lock of this shard's number
    (storage.leases).
    """

    def __init__(
        self,
        number: int,
        settings: CrawlSettings,
        database: Database,
        index: IndexWriter,
        frames: socket.socket,
        control: socket.socket,
    ) -> None:
        self._frames = frames
        self._control = control
        self._sending = threading.Lock()
        self._streams: dict[int, StreamState] = {}
        self._numbers: dict[int, int] = {}
        self._ended = False
        gate = Gate(settings, run=database.run)
        self._pipeline = Pipeline(
            settings,
            database,
            index,
            gate,
            shard=number,
            on_desynchronized=lambda: self.send(Wake(repos=True)),
            on_identities=lambda: self.send(Wake(identities=True)),
        )

    def run(self) -> None:
        """Work until the end; a failure exits the process at once."""
        self._pipeline.start()
        for work in (self._watch_router, self._send_stats):
            threading.Thread(target=_guard, args=(work,), daemon=True).start()
        _guard(self._read)
        self._pipeline.stop()
        self.send(self._stats())

    def send(self, message: Any) -> None:
        """Send a message to the router. Any thread may call it."""
        packed = pack_control(message)
        try:
            with self._sending:
                self._control.sendall(packed)
        except OSError:
            _leave()

    # the main thread

    def _read(self) -> None:
        reader = MessageReader()
        pipeline = self._pipeline
        while not self._ended:
            chunk = _receive(self._frames)
            arrivals: list[tuple[Arrival | ResetHost, int]] = []
            for kind, number, position, body in reader.feed(chunk):
                if kind == Kind.FRAME:
                    arrival = Arrival(self._streams[number], body, position)
                    arrivals.append((arrival, len(body)))
                else:
                    self._take(kind, number, position, body, arrivals)
            pipeline.put_batch(arrivals)
            if pipeline.queued_bytes > _BEHIND_BYTES:
                time.sleep(_BURST_PAUSE)

    def _take(
        self,
        kind: int,
        number: int,
        position: int,
        body: bytes,
        arrivals: list[tuple[Arrival | ResetHost, int]],
    ) -> None:
        if kind == Kind.END:
            self._ended = True
        elif kind == Kind.OPEN:
            self._open(number, pickle.loads(body))  # noqa: S301  (from our router)
        elif kind == Kind.MARK:
            arrivals.append((Arrival(self._streams[number], None, position), 0))
        elif kind == Kind.RESET:
            arrivals.append((ResetHost(self._streams[number].host, position), 0))

    def _open(self, number: int, opened: OpenStream) -> None:
        state = StreamState(
            opened.host,
            opened.hostname,
            relay=opened.relay,
            trusted=opened.trusted,
            last_seq=opened.last_seq,
        )

        def tell() -> None:
            assert state.fault is not None
            self.send(StreamFault(number, state.fault, state.detail, state.last_seq))

        state.on_fault = tell
        # The host's previous stream has ended.
        self._streams.pop(self._numbers.get(opened.host, -1), None)
        self._numbers[opened.host] = number
        self._streams[number] = state
        self._pipeline.add_stream(state)

    # other threads

    def _watch_router(self) -> None:
        # The router sends nothing here; the channel ends with it.
        while True:
            _receive(self._control)

    def _send_stats(self) -> None:
        sent: Counter[int] = Counter()
        while True:
            time.sleep(_STATS_EVERY)
            if self._pipeline.failure is not None:
                # Logged already; the router restarts the shard.
                _leave()
            for number, state in list(self._streams.items()):
                fresh = state.throttled - sent[number]
                if fresh:
                    sent[number] = state.throttled
                    self.send(Throttled(number, fresh))
            self.send(self._stats())

    def _stats(self) -> ShardStats:
        pipeline = self._pipeline
        # Other threads change the counters meanwhile.
        stats = replace(pipeline.stats, drops=Counter(pipeline.stats.drops))
        return ShardStats(stats, pipeline.queued_bytes)


def _guard(work: Callable[[], None]) -> None:
    """Exit when a thread fails; the router restarts the shard."""
    try:
        work()
    except Exception:
        log.exception("shard_failed")
        _leave()


def _receive(channel: socket.socket) -> bytes:
    try:
        chunk = channel.recv(_CHUNK)
    except OSError:
        chunk = b""
    if not chunk:
        _leave()
    return chunk


def _leave() -> None:
    """Exit at once: open transactions are rolled back, and their frames come again."""
    os._exit(1)
