"""A thread that follows close behind those who write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Self

import psycopg
import structlog

log = structlog.get_logger(__name__)

_AFTER_ERROR_S: Final = 1.0


class Wakeful:
    """Calls `work` until it returns False, then again when woken, and every `look_s`
    seconds: what other processes write brings no wake-up. A context manager; leaving it
    waits for the call that is under way.

    A failure of the database is logged as `NAME_failed`; what was left waits in the
    database for the next look.
    """

    def __init__(self, name: str, work: Callable[[], bool], *, look_s: float) -> None:
        self._name = name
        self._work = work
        self._look_s = look_s
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """There may be work. Call from any thread."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                while not self._stopping.is_set() and self._work():
                    pass
            except psycopg.Error as error:
                log.warning(f"{self._name}_failed", why=str(error))
                self._stopping.wait(_AFTER_ERROR_S)
            self._wake.wait(self._look_s)
            self._wake.clear()
