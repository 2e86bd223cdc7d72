"""Metrics of the requests of one server, which may have several processes."""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from service.monitoring.metrics import OTHER, STATUS_CLASSES, closed

_STATUSES: Final = (*STATUS_CLASSES, OTHER)
_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
    float("inf"),
)
_TEXTS: Final = (*map(str, _BUCKETS[:-1]), "+Inf")
# The figures of a method: requests by status, requests by bucket, seconds in all.
_FIGURES: Final = len(_STATUSES) + len(_BUCKETS) + 1


class RequestMetrics(Collector):
    """Requests of an XRPC server, by method and class of status.

    The figures of all `processes` are in memory that forked processes share. Each one
    writes its own part, set as `process`, and shows the sum. A process that takes the
    place of a dead one goes on with its figures.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        methods: Collection[str],
        processes: int = 1,
    ) -> None:
        self._places = {name: i for i, name in enumerate((*sorted(methods), OTHER))}
        self._processes = processes
        self._part = len(self._places) * _FIGURES
        self._figures = memoryview(mmap.mmap(-1, processes * self._part * 8)).cast("d")
        self._lock = threading.Lock()
        self.process = 0
        registry.register(self)

    def observe(self, nsid: str, status: int, seconds: float) -> None:
        """Count a reply."""
        method = self._places[closed(nsid, self._places)]
        kind = closed(f"{status // 100}xx", STATUS_CLASSES)
        first = self.process * self._part + method * _FIGURES
        bucket = len(_STATUSES) + bisect_left(_BUCKETS, seconds)
        with self._lock:
            self._figures[first + _STATUSES.index(kind)] += 1
            self._figures[first + bucket] += 1
            self._figures[first + _FIGURES - 1] += seconds

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        count = CounterMetricFamily(
            "bigworld_requests_total",
            "XRPC requests answered",
            labels=("method", "status"),
        )
        times = HistogramMetricFamily(
            "bigworld_request_seconds",
            "Time to answer an XRPC request",
            labels=("method",),
        )
        for name, place in self._places.items():
            figures = self._sum(place)
            statuses, buckets = figures[: len(_STATUSES)], figures[len(_STATUSES) : -1]
            if not any(buckets):
                continue
            for status, number in zip(_STATUSES, statuses, strict=True):
                if number:
                    count.add_metric((name, status), number)
            bounds = [(_TEXTS[i], sum(buckets[: i + 1])) for i in range(len(_BUCKETS))]
            times.add_metric((name,), bounds, figures[-1])
        yield count
        yield times

    def _sum(self, method: int) -> list[float]:
        first = method * _FIGURES
        starts = range(first, first + self._processes * self._part, self._part)
        parts = [self._figures[start : start + _FIGURES].tolist() for start in starts]
        return [sum(column) for column in zip(*parts, strict=True)]
