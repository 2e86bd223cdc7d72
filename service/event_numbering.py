"""Gives the events of the log their numbers, close behind the writers, and forgets the
old ones."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.event_log import number_events, prune

log = structlog.get_logger(__name__)

# Blocks of other processes (shards, the worker) bring no wake-up.
_LOOK_S: Final = 0.1
_PRUNE_S: Final = 60.0
_AFTER_ERROR_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class EventKeep:
    """How much of the log is kept."""

    hours: float
    megabytes: int


class EventNumbering:
    """A thread: `with EventNumbering(pool, keep) as numbering`. Any process may have
    one. `idle`: nothing is logged now, only what is there ages."""

    def __init__(
        self,
        pool: ConnectionPool[psycopg.Connection[Any]],
        keep: EventKeep,
        *,
        idle: bool = False,
    ) -> None:
        self._pool = pool
        self._keep = keep
        self._look_s = _PRUNE_S if idle else _LOOK_S
        self._pruned_at = float("-inf")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-numbering")

    def __enter__(self) -> EventNumbering:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """There may be events without a number. Call from any thread."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                while self._number():
                    pass
                if time.monotonic() - self._pruned_at >= _PRUNE_S:
                    self._prune()
            except psycopg.Error as error:
                # They stay without a number until somebody gives them one.
                log.warning("event_numbering_failed", why=str(error))
                self._stopping.wait(_AFTER_ERROR_S)
            self._wake.wait(self._look_s)
            self._wake.clear()

    def _number(self) -> int:
        with self._pool.connection() as conn:
            return number_events(conn, time.time_ns() // 1_000)

    def _prune(self) -> None:
        before = time.time() - self._keep.hours * 3_600
        with self._pool.connection() as conn:
            gone = sum(
                prune(
                    conn,
                    before_us=int(before * 1_000_000),
                    max_bytes=self._keep.megabytes * 1_000_000,
                )
            )
        self._pruned_at = time.monotonic()
        if gone:
            log.info("events_forgotten", events=gone)
