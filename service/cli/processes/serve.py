"""`bigworld serve`: the provider as a process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from protocol.lexicon import Catalog
from service.cli.processes.running_process import run_async, serve_until_stopped
from service.monitoring.metrics import (
    IndexCollector,
    RequestMetrics,
    metrics_route,
    serve_metrics,
)
from service.monitoring.watch_metrics import LabelerCollector, WatchCollector
from service.provider import create_app
from service.runtime.config import Config
from service.runtime.databases import INDEX, PRIVATE, open_database
from storage.postgres.pool import open_pool


def run(config: Config) -> None:
    """Serve search, feeds and views until a stop signal."""
    registry = CollectorRegistry()
    methods = frozenset(Catalog.load().methods())
    requests = RequestMetrics(registry, methods)
    with (
        open_database(config, INDEX) as url,
        open_database(config, PRIVATE) as private_url,
        open_pool(url, min=0, max=2, name="metrics") as pool,
    ):
        registry.register(IndexCollector(pool))
        registry.register(WatchCollector(pool))
        registry.register(LabelerCollector(pool, config.subscribed_labelers))
        serve_metrics(registry, config.bind, config.metrics_port)
        app = create_app(
            config,
            url,
            private_url,
            operator_routes=[metrics_route(registry)],
            observe=requests.observe,
        )
        run_async(serve_until_stopped(app, config, config.provider_port), config)
