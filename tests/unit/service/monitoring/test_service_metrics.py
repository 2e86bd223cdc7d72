"""Metrics: closed label sets, and the numbers that stand in the database."""

from __future__ import annotations

import os
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette

from network.server.listener import serving_in_thread
from protocol.events.drops import DropReason
from service.monitoring.metrics import (
    IndexCollector,
    TaskMetrics,
    metrics_route,
)
from service.monitoring.request_metrics import RequestMetrics
from storage.postgres.pool import Pool


def lines(registry: CollectorRegistry) -> list[str]:
    return generate_latest(registry).decode().splitlines()


def test_unknown_methods_and_statuses_share_one_series() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry, ["app.bsky.feed.getPosts"])
    metrics.observe("app.bsky.feed.getPosts", 200, 0.01)
    for number in range(100):
        metrics.observe(f"x.y.z{number}", 200, 0.01)
    metrics.observe("app.bsky.feed.getPosts", 999, 0.01)
    counts = [
        line for line in lines(registry) if line.startswith("bigworld_requests_total{")
    ]
    assert sorted(counts) == [
        'bigworld_requests_total{method="app.bsky.feed.getPosts",status="2xx"} 1.0',
        'bigworld_requests_total{method="app.bsky.feed.getPosts",status="other"} 1.0',
        'bigworld_requests_total{method="other",status="2xx"} 100.0',
    ]


def test_figures_of_all_processes_are_one_sum() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry, ["a.b.c"], processes=3)
    for process, seconds in ((0, 0.004), (2, 0.04), (2, 20.0)):
        pid = os.fork()
        if not pid:
            metrics.process = process
            metrics.observe("a.b.c", 200, seconds)
            os._exit(0)
        os.waitpid(pid, 0)
    shown = lines(registry)
    assert 'bigworld_requests_total{method="a.b.c",status="2xx"} 3.0' in shown
    assert 'bigworld_request_seconds_bucket{le="0.005",method="a.b.c"} 1.0' in shown
    assert 'bigworld_request_seconds_bucket{le="0.05",method="a.b.c"} 2.0' in shown
    assert 'bigworld_request_seconds_bucket{le="10.0",method="a.b.c"} 2.0' in shown
    assert 'bigworld_request_seconds_bucket{le="+Inf",method="a.b.c"} 3.0' in shown
    assert 'bigworld_request_seconds_sum{method="a.b.c"} 20.044' in shown


def test_tasks_are_counted_by_outcome() -> None:
    registry = CollectorRegistry()
    metrics = TaskMetrics(registry, ["list_repos"])
    with metrics.run("list_repos"):
        pass
    with pytest.raises(ZeroDivisionError), metrics.run("list_repos"):
        1 / 0  # noqa: B018
    shown = lines(registry)
    assert 'bigworld_tasks_total{outcome="done",task="list_repos"} 1.0' in shown
    assert 'bigworld_tasks_total{outcome="failed",task="list_repos"} 1.0' in shown


def test_index_collector_reads_on_collection(pool: Pool) -> None:
    registry = CollectorRegistry()
    registry.register(IndexCollector(pool))
    with pool.connection() as conn:
        conn.execute(
            "INSERT INTO drop_count (reason, host, n) VALUES (%s, 0, 2), (%s, 7, 3),"
            " ('made up', 0, 1)",
            (DropReason.BAD_SIGNATURE, DropReason.BAD_SIGNATURE),
        )
    app = Starlette(routes=[metrics_route(registry)])
    with serving_in_thread(app) as url, urlopen(f"{url}/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain")
        shown = answer.read().decode().splitlines()
    assert 'bigworld_drops_total{reason="bad_signature"} 5.0' in shown
    assert 'bigworld_drops_total{reason="other"} 1.0' in shown
    assert 'bigworld_repos{state="synchronized"} 0.0' in shown
    assert "bigworld_search_outbox 0.0" in shown
    reasons = sum(line.startswith("bigworld_drops_total{") for line in shown)
    assert reasons == len(DropReason) + 1
