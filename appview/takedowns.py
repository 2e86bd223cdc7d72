"""Takedowns in force, held in memory by each process that answers requests."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import Final

import psycopg

from storage.private.decisions import last_decision
from storage.private.private_store import PrivateStore
from storage.private.takedowns import NOTHING, TakenDown, load_taken_down

log = logging.getLogger(__name__)

CHECK_EVERY_S: Final = 1.0
"""Seconds after which a process looks for new decisions."""


class TakedownCache:
    """The takedowns, read again when an operator has decided something.

    While the private database is away the last known ones hold.
    """

    def __init__(self, every_s: float = CHECK_EVERY_S) -> None:
        self._every_s = every_s
        self._lock = threading.Lock()
        self._known: TakenDown | None = None
        self._checked_at = 0.0

    def current(self, private: PrivateStore) -> TakenDown:
        """Return the takedowns. Call it while no connection of the index is held."""
        known = self._known
        if known is not None and monotonic() - self._checked_at < self._every_s:
            return known
        # Only the first readers wait; later ones go on with what is known.
        if not self._lock.acquire(blocking=known is None):
            return known or NOTHING
        try:
            if monotonic() - self._checked_at >= self._every_s or self._known is None:
                self._known = self._load(private, self._known)
                self._checked_at = monotonic()
            return self._known
        finally:
            self._lock.release()

    def _load(self, private: PrivateStore, known: TakenDown | None) -> TakenDown:
        try:
            with private.read() as conn:
                version = last_decision(conn)
                if known is not None and version == known.version:
                    return known
                return load_taken_down(conn, version)
        except psycopg.Error:
            if known is None:
                raise
            log.exception("takedowns_unknown")
            return known
