"""One shard: a process that proves and applies the accounts of one hash.

It has no way to the outside: frames come from the router, look-ups are asked of it.
Without its router it ends at once; what it had not committed comes again.
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
from crawler.live.pipeline import Pipeline
from crawler.live.rounds import ResetHost
from crawler.live.stream_state import Arrival, StreamState
from crawler.settings import MIB, CrawlSettings
from crawler.shards.shard_wire import (
    Asked,
    ControlReader,
    Faulted,
    Kind,
    MessageReader,
    OpenStream,
    Throttled,
    Told,
    Woken,
    pack_control,
)
from crawler.sink import Sink
from protocol.syntax.did import Did

log = logging.getLogger(__name__)

_CHUNK: Final = 256 * 1024
_TELL_EVERY: Final = 0.5
# While there is enough to prove, the channel is read in larger pieces: each time this
# thread wakes up it takes the interpreter from the one that proves.
_BEHIND_BYTES: Final = 2 * MIB
_BURST_PAUSE: Final = 0.005


class Shard:
    """`run()` blocks until the router says that this is the end.

    `relayed`: some stream is a relay's. `sink` writes on a connection that holds the
    lock of this shard's number (storage.postgres.leases).
    """

    def __init__(
        self,
        number: int,
        settings: CrawlSettings,
        database: Database,
        sink: Sink,
        frames: socket.socket,
        control: socket.socket,
        *,
        relayed: bool,
    ) -> None:
        self._frames = frames
        self._control = control
        self._sending = threading.Lock()
        self._streams: dict[int, StreamState] = {}
        self._numbers: dict[int, int] = {}
        self._ended = False
        gate = Gate(settings, run=database.run, look_up=self._ask, relayed=relayed)
        self._pipeline = Pipeline(
            settings,
            database,
            sink,
            gate,
            shard=number,
            on_desynchronized=lambda: self.send(Woken(repos=True)),
            on_identities=lambda: self.send(Woken(identities=True)),
        )

    def run(self) -> None:
        """Work until the end; anything but the end ends the process at once."""
        self._pipeline.start()
        for work in (self._hear, self._tell):
            threading.Thread(target=_guard, args=(work,), daemon=True).start()
        _guard(self._read)
        self._pipeline.stop()
        self.send(self._told())

    def send(self, message: Any) -> None:
        """Say something to the router. May be called from any thread."""
        packed = pack_control(message)
        try:
            with self._sending:
                self._control.sendall(packed)
        except OSError:
            _leave()

    def _ask(self, did: Did, refresh: bool, host: int) -> None:
        self.send(Asked(did, refresh, host))

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
            self.send(Faulted(number, state.fault, state.detail, state.last_seq))

        state.on_fault = tell
        # The host's stream before this one has nothing more to come.
        self._streams.pop(self._numbers.get(opened.host, -1), None)
        self._numbers[opened.host] = number
        self._streams[number] = state
        self._pipeline.add_stream(state)

    # other threads

    def _hear(self) -> None:
        reader = ControlReader()
        while True:
            for found in reader.feed(_receive(self._control)):
                self._pipeline.answer(found)

    def _tell(self) -> None:
        told: Counter[int] = Counter()
        while True:
            time.sleep(_TELL_EVERY)
            if self._pipeline.failure is not None:
                # It has been logged; the router starts another.
                _leave()
            for number, state in list(self._streams.items()):
                fresh = state.throttled - told[number]
                if fresh:
                    told[number] = state.throttled
                    self.send(Throttled(number, fresh))
            self.send(self._told())

    def _told(self) -> Told:
        pipeline = self._pipeline
        # Other threads go on counting while this is sent.
        stats = replace(pipeline.stats, drops=Counter(pipeline.stats.drops))
        return Told(stats, pipeline.queued_bytes, pipeline.lookups_waiting)


def _guard(work: Callable[[], None]) -> None:
    """A shard that is deaf or mute is worse than one that begins anew."""
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
    """End at once: open transactions are undone, and their work comes again."""
    os._exit(1)
