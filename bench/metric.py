"""Figures of a benchmark, with their floors."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure. `floor` is the physical limit, or the simplest program for the same
    work, measured in the same run."""

    bench: str
    metric: str
    value: float
    unit: str
    floor: float | None = None

    @property
    def ratio(self) -> float | None:
        """Return the value in units of its floor."""
        return self.value / self.floor if self.floor else None


class Progress(Protocol):
    """Receiver of progress, such as service.cli.progress.Report."""

    def count(self, what: str, done: int, total: int) -> None: ...


Bench = Callable[[bool, Progress], Sequence[Metric]]
"""A benchmark: (quick, progress) -> figures. Figures of a quick run mean nothing."""


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return float(statistics.median(values))
