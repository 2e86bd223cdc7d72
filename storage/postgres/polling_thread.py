"""A thread that follows close behind the writers of a table."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Self

import psycopg
import structlog

log = structlog.get_logger(__name__)

_AFTER_ERROR_S: Final = 1.0


class PollingThread:
    """Calls `work` until it returns False, then again after `wake` or `poll_s` seconds.

    Other processes wake nobody, hence the polling. On exit the context manager waits
    for the running call. Database errors are logged as `NAME_failed` and retried.
    """

    def __init__(self, name: str, work: Callable[[], bool], *, poll_s: float) -> None:
        self._name = name
        self._work = work
        self._poll_s = poll_s
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
        """Look for work now. Call from any thread."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                while not self._stopping.is_set() and self._work():
                    pass
            except psycopg.Error as error:
                log.warning(f"{self._name}_failed", why=str(error))
                self._stopping.wait(_AFTER_ERROR_S)
            self._wake.wait(self._poll_s)
            self._wake.clear()
