"""What this process and the database server take while a benchmark runs."""

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


class Cpu(NamedTuple):
    """CPU seconds used so far by this process and its helpers, by the backends of our
    database server, by what that does of its own accord (vacuum, checkpoints, its log),
    and by others."""

    own: float
    server: float
    upkeep: float
    others: float

    def since(self, before: Cpu) -> Cpu:
        """What was used between two looks."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


def cpu_seconds(others: Collection[int] = ()) -> Cpu:
    """What has been used until now; `others` are ids of child processes."""
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
                    # The postmaster has the times of those that ended: vacuums, here,
                    # for connections stay open while anything is measured.
                    upkeep += used + times.children_user + times.children_system
            elif process.pid in others:
                apart += used
            else:
                own += used
        except (psutil.NoSuchProcess, IndexError):
            continue
    return Cpu(own, server, upkeep, apart)


_BACKENDS: Final = ("[local]", "io worker")
