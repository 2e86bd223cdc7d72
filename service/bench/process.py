"""What this process and the database server take while a benchmark runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from types import TracebackType
from typing import Final, Self

import psutil

_EVERY_S: Final = 0.01
_MIB: Final = 1024 * 1024


class MemoryWatch:
    """How far the resident memory of this process rises while the block runs."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._start = 0
        self._peak = 0

    def __enter__(self) -> Self:
        self._start = self._peak = self._resident()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def risen_mib(self) -> float:
        """The highest level above that of the start, in MiB."""
        return (self._peak - self._start) / _MIB

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._peak = max(self._peak, self._resident())

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)


def server_seconds() -> float:
    """CPU time that our database server's processes have used so far."""
    return cpu_seconds(frozenset())[1]


def cpu_seconds(others: Collection[int]) -> tuple[float, float, float]:
    """CPU time used so far: by this process and its helpers, by our database server,
    and by those of our children whose process ids are in `others`."""
    own = time.process_time()
    server = apart = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            used = times.user + times.system
            if process.name().startswith("postgres"):
                # A backend that has ended left its time with the postmaster.
                server += used + times.children_user + times.children_system
            elif process.pid in others:
                apart += used
            else:
                own += used
        except psutil.NoSuchProcess:
            continue
    return own, server, apart
