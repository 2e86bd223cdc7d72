"""CPU time and memory of this process and of the database server."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from types import TracebackType
from typing import Final, NamedTuple, Self

import psutil

_EVERY_S: Final = 0.01
_MIB: Final = 1024 * 1024


class MemoryWatch:
    """Watch of the resident memory of this process."""

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
        """Return the peak above the start, in MiB."""
        return (self._peak - self._start) / _MIB

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._peak = max(self._peak, self._resident())

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)


class Cpu(NamedTuple):
    """CPU seconds of this process and its helpers, of the database backends, of the
    database's upkeep (vacuum, checkpoints), and of other children."""

    own: float
    server: float
    upkeep: float
    others: float

    def since(self, before: Cpu) -> Cpu:
        """Return the CPU seconds used since `before`."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


def cpu_seconds(others: Collection[int] = ()) -> Cpu:
    """Return the CPU seconds used so far; `others` are ids of child processes."""
    own = time.process_time()
    server = upkeep = apart = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            used = times.user + times.system
            if process.name().startswith("postgres"):
                if any(title in process.cmdline()[0] for title in _BACKENDS):
                    server += used
                else:
                    # The postmaster has the times of ended processes: of vacuums,
                    # since connections stay open during a measurement.
                    upkeep += used + times.children_user + times.children_system
            elif process.pid in others:
                apart += used
            else:
                own += used
        except (psutil.NoSuchProcess, IndexError):
            continue
    return Cpu(own, server, upkeep, apart)


_BACKENDS: Final = ("[local]", "io worker")
