"""Gives the events of the log their numbers, close behind the writers."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.event_log import number_events, prune

log = structlog.get_logger(__name__)

# Blocks of other processes (shards, the worker) bring no wake-up.
_IDLE_S = 0.1
_AFTER_ERROR_S = 1.0


class EventNumbering:
    """A thread: `with EventNumbering(pool) as numbering`. Any process may have one."""

    def __init__(self, pool: ConnectionPool[psycopg.Connection[Any]]) -> None:
        self._pool = pool
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
            self._wake.wait(_IDLE_S)
            self._wake.clear()
            try:
                while self._number():
                    pass
            except psycopg.Error as error:
                # They stay without a number until somebody gives them one.
                log.warning("event_numbering_failed", why=str(error))
                self._stopping.wait(_AFTER_ERROR_S)

    def _number(self) -> int:
        with self._pool.connection() as conn:
            return number_events(conn, time.time_ns() // 1_000)


def prune_events(
    pool: ConnectionPool[psycopg.Connection[Any]], *, hours: float, megabytes: int
) -> int:
    """Forget the events that are too old or too many; return how many went."""
    before = time.time() - hours * 3_600
    with pool.connection() as conn:
        # What nobody has numbered could otherwise never be forgotten.
        number_events(conn, time.time_ns() // 1_000)
        steps = prune(
            conn, before_us=int(before * 1_000_000), max_bytes=megabytes * 1_000_000
        )
        return sum(steps)
