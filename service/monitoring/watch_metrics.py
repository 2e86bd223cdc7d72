"""What is watched, as metrics: rates, lag, queues, drops, stalls, clocks, alarms.

No host is a label: a stranger could make us known to any number of hosts. Hosts are
counted and summed up; which one it is stands on the status page.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg_pool import ConnectionPool

from protocol.events.drops import DropReason
from service.monitoring.alarms import AlarmKind, find_alarms
from service.monitoring.snapshot import TASK_PULSE, Snapshot, take_snapshot
from storage.hosts.host_activity import Gauge
from storage.hosts.host_rows import HOST_STREAMING, MODE_POLL, MODE_STREAM

_KEPT_S = 5.0


class WatchCollector(Collector):
    """Reads a snapshot when asked, at most every five seconds."""

    def __init__(self, pool: ConnectionPool[psycopg.Connection[Any]]) -> None:
        self._pool = pool
        self._kept: tuple[float, list[Metric]] = (float("-inf"), [])

    def describe(self) -> list[Metric]:
        """No look at the database when the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        taken, metrics = self._kept
        if time.monotonic() - taken > _KEPT_S:
            with self._pool.connection() as conn:
                metrics = list(watch_metrics(take_snapshot(conn)))
            self._kept = (time.monotonic(), metrics)
        yield from metrics


def watch_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """The metrics of one snapshot. Label values are of closed sets."""
    events = snapshot.events or Gauge("events", 0.0, 0.0, 0.0, 0.0, 0.0)
    yield CounterMetricFamily(
        "bigworld_host_events", "Events that hosts sent", value=events.total
    )
    yield _labelled(
        "bigworld_event_rate",
        "Events a second: lately, and as it usually is",
        "over",
        {"lately": events.rate, "usually": events.usual},
    )
    yield _labelled(
        "bigworld_drop_rate",
        "Drops a second lately",
        "reason",
        {reason: snapshot.drop_rates.get(reason, 0.0) for reason in DropReason},
    )
    streamed = [host for host in snapshot.hosts if host.state == HOST_STREAMING]
    lags = sorted(host.lag_s for host in streamed if host.lag_s is not None)
    yield _labelled(
        "bigworld_lag_seconds",
        "How long after they happened events came in, over streamed hosts",
        "of",
        {
            "median": max(0.0, lags[len(lags) // 2]) if lags else 0.0,
            "worst": max(0.0, lags[-1]) if lags else 0.0,
        },
    )
    yield GaugeMetricFamily(
        "bigworld_clock_ahead_seconds",
        "The furthest that a host's clock is ahead of ours",
        value=max([0.0, *(-lag for lag in lags)]),
    )
    modes = Counter(host.mode for host in snapshot.hosts)
    yield _labelled(
        "bigworld_followed_hosts",
        "Hosts by how they are followed",
        "mode",
        {mode: modes[mode] for mode in (MODE_STREAM, MODE_POLL)},
    )
    yield _labelled(
        "bigworld_waiting",
        "What waits, by queue",
        "queue",
        {
            "search": snapshot.outbox,
            "resync_buffer": snapshot.buffered,
            "repos": snapshot.waiting,
            "jobs": sum(snapshot.jobs.values()),
        },
    )
    yield GaugeMetricFamily(
        "bigworld_quarantined",
        "Inputs of the last day that our own code failed on",
        value=snapshot.quarantined,
    )
    ages = [
        pulse.age_s
        for name, pulse in snapshot.pulses.items()
        if not name.startswith(TASK_PULSE)
    ]
    yield GaugeMetricFamily(
        "bigworld_pulse_age_seconds",
        "Since the crawl last said that it is at work",
        value=max(ages, default=0.0),
    )
    alarms = Counter(alarm.kind for alarm in find_alarms(snapshot))
    yield _labelled(
        "bigworld_alarms",
        "Alarms that ring now",
        "kind",
        {kind: alarms[kind] for kind in AlarmKind},
    )


def _labelled(
    name: str, text: str, label: str, values: Mapping[str, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, figure in values.items():
        family.add_metric((value,), figure)
    return family
