"""Gives the events of the log their numbers, close behind the writers, and forgets the
old ones."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from service.runtime.polling_thread import Wakeful
from storage.records.event_log import number_events, prune

log = structlog.get_logger(__name__)

_LOOK_S: Final = 0.1
_PRUNE_S: Final = 60.0

Pool = ConnectionPool[psycopg.Connection[Any]]


@dataclass(frozen=True, slots=True)
class EventKeep:
    """How much of the log is kept."""

    hours: float
    megabytes: int


def event_numbering(pool: Pool, keep: EventKeep, *, idle: bool = False) -> Wakeful:
    """A thread that numbers events; any process may have one. `idle`: nothing is logged
    now, only what is there ages."""
    numbering = _Numbering(pool, keep)
    look_s = _PRUNE_S if idle else _LOOK_S
    return Wakeful("event_numbering", numbering.work, look_s=look_s)


class _Numbering:
    def __init__(self, pool: Pool, keep: EventKeep) -> None:
        self._pool = pool
        self._keep = keep
        self._pruned_at = float("-inf")

    def work(self) -> bool:
        """Number some; where there are none, see to the old ones."""
        with self._pool.connection() as conn:
            if number_events(conn, time.time_ns() // 1_000):
                return True
        if time.monotonic() - self._pruned_at >= _PRUNE_S:
            self._prune()
        return False

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
