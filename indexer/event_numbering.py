"""Numbering and pruning of the event log, close behind its writers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import structlog

from storage.change_log import forget_idle_readers
from storage.postgres.polling_thread import PollingThread
from storage.postgres.pool import Pool
from storage.records.event_log import number_events, prune

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.1
_PRUNE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class EventRetention:
    """Limits of the event log: age and size."""

    hours: float
    megabytes: int


def event_numbering(
    pool: Pool, retention: EventRetention, *, idle: bool = False
) -> PollingThread:
    """Return a thread that numbers events; any process may run one.

    `idle`: nothing is logged now, so that the thread only prunes.
    """
    numbering = _Numbering(pool, retention)
    poll_s = _PRUNE_S if idle else _POLL_S
    return PollingThread("event_numbering", numbering.work, poll_s=poll_s)


class _Numbering:
    def __init__(self, pool: Pool, retention: EventRetention) -> None:
        self._pool = pool
        self._retention = retention
        self._pruned_at = float("-inf")

    def work(self) -> bool:
        """Number some events; prune the log if there are none."""
        with self._pool.connection() as conn:
            if number_events(conn, time.time_ns() // 1_000):
                return True
        if time.monotonic() - self._pruned_at >= _PRUNE_S:
            self._prune()
        return False

    def _prune(self) -> None:
        before = time.time() - self._retention.hours * 3_600
        with self._pool.connection() as conn:
            gone = sum(
                prune(
                    conn,
                    before_us=int(before * 1_000_000),
                    max_bytes=self._retention.megabytes * 1_000_000,
                )
            )
            forgotten = forget_idle_readers(conn)
        self._pruned_at = time.monotonic()
        if forgotten:
            log.warning("exports_forgotten", exports=forgotten)
        if gone:
            log.info("events_pruned", events=gone)
