"""Metrics of the snapshot: rates, lag, queues, drops, clocks, alarms.

Hosts are summed up, never a label: anyone can make any number of hosts known to us.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from labels.label_rows import stream_states
from labels.signed_label import LabelFault
from protocol.events.drops import DropReason
from service.monitoring.alarm_rules import find_alarms
from service.monitoring.alarms import AlarmKind
from service.monitoring.metrics import DatabaseCollector, labelled
from service.monitoring.snapshot import TASK_PULSE, Snapshot, take_snapshot
from storage.hosts.host_activity import Gauge
from storage.hosts.host_rows import HOST_STREAMING, MODE_POLL, MODE_STREAM
from storage.postgres.pool import Pool

_KEPT_S = 5.0


class WatchCollector(DatabaseCollector):
    """Metrics of a snapshot, taken at most every five seconds."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._kept: tuple[float, list[Metric]] = (float("-inf"), [])

    def collect(self) -> Iterator[Metric]:
        taken, metrics = self._kept
        if time.monotonic() - taken > _KEPT_S:
            with self._pool.connection() as conn:
                metrics = list(watch_metrics(take_snapshot(conn)))
            self._kept = (time.monotonic(), metrics)
        yield from metrics


def watch_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of a snapshot. Label values are of closed sets."""
    events = snapshot.events or Gauge("events", 0.0, 0.0, 0.0, 0.0, 0.0)
    yield CounterMetricFamily(
        "bigworld_host_events", "Events that hosts sent", value=events.total
    )
    yield labelled(
        "bigworld_event_rate",
        "Events per second: recent and usual",
        "over",
        {"lately": events.rate, "usually": events.usual},
    )
    yield labelled(
        "bigworld_drop_rate",
        "Recent drops per second",
        "reason",
        {reason: snapshot.drop_rates.get(reason, 0.0) for reason in DropReason},
    )
    streamed = [host for host in snapshot.hosts if host.state == HOST_STREAMING]
    lags = sorted(host.lag_s for host in streamed if host.lag_s is not None)
    yield labelled(
        "bigworld_lag_seconds",
        "Delay of events from streamed hosts",
        "of",
        {
            "median": max(0.0, lags[len(lags) // 2]) if lags else 0.0,
            "worst": max(0.0, lags[-1]) if lags else 0.0,
        },
    )
    yield GaugeMetricFamily(
        "bigworld_clock_ahead_seconds",
        "Largest lead of a host's clock over ours",
        value=max([0.0, *(-lag for lag in lags)]),
    )
    modes = Counter(host.mode for host in snapshot.hosts)
    yield labelled(
        "bigworld_followed_hosts",
        "Hosts by the way they are followed",
        "mode",
        {mode: modes[mode] for mode in (MODE_STREAM, MODE_POLL)},
    )
    yield labelled(
        "bigworld_waiting",
        "Queued entries, by queue",
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
        "Inputs quarantined in the last day",
        value=snapshot.quarantined,
    )
    ages = [
        pulse.age_s
        for name, pulse in snapshot.pulses.items()
        if not name.startswith(TASK_PULSE)
    ]
    yield GaugeMetricFamily(
        "bigworld_pulse_age_seconds",
        "Seconds since the last heartbeat of the crawl",
        value=max(ages, default=0.0),
    )
    alarms = Counter(alarm.kind for alarm in find_alarms(snapshot))
    yield labelled(
        "bigworld_alarms",
        "Active alarms",
        "kind",
        {kind: alarms[kind] for kind in AlarmKind},
    )


class LabelerCollector(DatabaseCollector):
    """Labels of the labelers in the settings: a closed set of DIDs."""

    def __init__(self, pool: Pool, labelers: Sequence[str]) -> None:
        super().__init__(pool)
        self._labelers = labelers

    def collect(self) -> Iterator[Metric]:
        with self._pool.connection() as conn:
            states = stream_states(conn, self._labelers)
        yield labelled(
            "bigworld_labels",
            "Labels received from a labeler",
            "labeler",
            {state["did"]: state["labels"] for state in states},
        )
        yield labelled(
            "bigworld_labeler_silent_seconds",
            "Time since a labeler's last message",
            "labeler",
            {
                state["did"]: state["silent_s"]
                for state in states
                if state["silent_s"] is not None
            },
        )
        dropped = dict.fromkeys(map(str, LabelFault), 0)
        for state in states:
            for reason in dropped.keys() & state["drops"].keys():
                dropped[reason] += state["drops"][reason]
        yield labelled(
            "bigworld_label_drops", "Labels dropped by reason", "reason", dropped
        )
