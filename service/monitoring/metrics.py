"""Prometheus metrics of the processes and of the database.

Every label value comes from a closed set, so that no input adds series.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from audit.samples import completeness
from protocol.events.drops import DropReason
from storage.hosts import host_rows
from storage.postgres.pool import Conn, Pool
from storage.states import REPO_STATES

if TYPE_CHECKING:
    from crawler.live.firehose import Firehose

OTHER = "other"
STATUS_CLASSES = ("2xx", "3xx", "4xx", "5xx")
_TASK_BUCKETS = (0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0)


def closed(value: str, allowed: Collection[str]) -> str:
    """Return `value` if the closed set has it, else "other"."""
    return value if value in allowed else OTHER


class TaskMetrics:
    """Runs of scheduled tasks, by name and outcome."""

    def __init__(self, registry: CollectorRegistry, names: Collection[str]) -> None:
        self._names = names
        self._count = Counter(
            "bigworld_tasks_total",
            "Scheduled tasks run",
            ("task", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "bigworld_task_seconds",
            "Time a scheduled task took",
            ("task",),
            buckets=_TASK_BUCKETS,
            registry=registry,
        )

    @contextmanager
    def run(self, name: str) -> Iterator[None]:
        """Count and time the work inside."""
        task = closed(name, self._names)
        started = perf_counter()
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            self._count.labels(task, outcome).inc()
            self._seconds.labels(task).observe(perf_counter() - started)


class CrawlCollector(Collector):
    """Work of the crawling process since its start."""

    def __init__(self, firehose: Firehose) -> None:
        self._firehose = firehose

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "bigworld_streams", "Streams that are open", value=self._firehose.streams
        )
        pipeline = self._firehose.pipeline
        if pipeline is None:
            return
        yield GaugeMetricFamily(
            "bigworld_queued_bytes",
            "Bytes of queued frames",
            value=pipeline.queued_bytes,
        )
        stats = pipeline.stats
        for name, text, value in (
            ("bigworld_frames", "Frames verified", stats.frames),
            ("bigworld_events", "Events that passed", stats.events),
            ("bigworld_applied", "Events applied", stats.applied),
            ("bigworld_batches", "Transactions of events", stats.batches),
            (
                "bigworld_unchecked_keys",
                "Created keys whose neighbors were not in the commit",
                stats.unchecked,
            ),
            (
                "bigworld_apply_seconds",
                "Time spent in those transactions",
                stats.apply_seconds,
            ),
        ):
            yield CounterMetricFamily(name, text, value=value)


class DatabaseCollector(Collector):
    """Metrics that are read from the database on collection."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def describe(self) -> list[Metric]:
        """Return nothing, so that registration reads no database."""
        return []


class IndexCollector(DatabaseCollector):
    """Contents of the index and drops."""

    def collect(self) -> Iterator[Metric]:
        with self._pool.connection() as conn:
            for name, text, label, allowed, query in (
                (
                    "bigworld_drops_total",
                    "Frames, operations and records dropped",
                    "reason",
                    frozenset(DropReason),
                    "SELECT reason, sum(n)::int8 FROM drop_count GROUP BY reason",
                ),
                (
                    "bigworld_repos",
                    "Repos in the index by state",
                    "state",
                    REPO_STATES,
                    "SELECT state, count(*) FROM repo GROUP BY state",
                ),
                (
                    "bigworld_hosts",
                    "Known hosts by state",
                    "state",
                    host_rows.HOST_STATES,
                    "SELECT state, count(*) FROM host GROUP BY state",
                ),
            ):
                counts: dict[str, float] = dict.fromkeys(allowed, 0)
                for value, count in conn.execute(query):
                    known = closed(value, allowed)
                    counts[known] = counts.get(known, 0) + count
                yield labelled(name, text, label, counts)
            yield from _completeness(conn)
            for name, text, query in (
                (
                    "bigworld_search_outbox",
                    "Queued search documents",
                    "SELECT count(*) FROM search_outbox",
                ),
                (
                    "bigworld_resync_buffer",
                    "Events held until their repo is fetched",
                    "SELECT count(*) FROM resync_buffer",
                ),
                (
                    "bigworld_repos_partial",
                    "Partial repos: only chosen collections are kept",
                    "SELECT count(*) FROM repo"
                    " WHERE selection IS NOT NULL AND rev IS NOT NULL",
                ),
                (
                    "bigworld_records_estimate",
                    "Records in the index, by the planner's estimate",
                    "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::int8 "
                    "FROM pg_class WHERE relkind = 'r' AND relname LIKE 'record\\_%'",
                ),
            ):
                row = conn.execute(query).fetchone()
                yield GaugeMetricFamily(name, text, value=row[0] if row else 0)


def _completeness(conn: Conn) -> Iterator[Metric]:
    figure = completeness(conn)
    yield labelled(
        "bigworld_audited",
        "Recently audited repos by verdict",
        "verdict",
        figure.verdicts,
    )
    for name, text, value in (
        ("bigworld_completeness", "Share of complete repos", figure.share),
        (
            "bigworld_completeness_chosen",
            "Share of repos with all chosen collections complete",
            figure.chosen,
        ),
        ("bigworld_completeness_low", "Its 95 % interval, low end", figure.low),
        ("bigworld_completeness_high", "Its 95 % interval, high end", figure.high),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, text, value=value)


def labelled(
    name: str, text: str, label: str, values: Mapping[Any, float]
) -> GaugeMetricFamily:
    """Return a gauge with a series per value of a label."""
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, figure in values.items():
        family.add_metric((value,), figure)
    return family


def metrics_route(registry: CollectorRegistry) -> Route:
    """Return the route of /metrics in Prometheus' text format."""

    def serve(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Route("/metrics", serve)


def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> None:
    """Serve /metrics on its own port from a daemon thread; do nothing for port 0."""
    if port:
        start_http_server(port, addr=host, registry=registry)
