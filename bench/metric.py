"""One figure of a benchmark, beside the limit that it is to be judged by."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Metric:
    """`floor` is the physical limit, or the simplest thing that could do the same
    work, measured in the same run; None where there is none."""

    bench: str
    metric: str
    value: float
    unit: str
    floor: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value in units of its floor."""
        return self.value / self.floor if self.floor else None


class Progress(Protocol):
    """Told how far a benchmark is; service.cli.progress.Report is one."""

    def count(self, what: str, done: int, total: int) -> None: ...


Bench = Callable[[bool, Progress], Sequence[Metric]]
"""A benchmark: (quick, progress) -> figures. A quick run is for tests: it goes all the
way on little data, and its figures mean nothing."""


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    return float(statistics.median(values))
