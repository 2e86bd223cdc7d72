"""`bigworld serve`: the provider as one process, or as several behind one port."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from network.server.shared_buckets import SharedBuckets
from protocol.lexicon import Catalog
from service.cli.processes.running_process import run_async, serve_until_stopped
from service.monitoring.metrics import IndexCollector, metrics_route, serve_metrics
from service.monitoring.request_metrics import RequestMetrics
from service.monitoring.watch_metrics import LabelerCollector, WatchCollector
from service.provider import create_app
from service.runtime.config import Config
from service.runtime.databases import INDEX, PRIVATE, open_database
from service.runtime.forked_processes import ForkedProcesses, check_port
from service.runtime.serving_process import ALONE, ServingProcess
from storage.postgres.pool import open_pool


def run(config: Config) -> None:
    """Serve search, feeds and views until a stop signal."""
    count = config.serve_process_count
    registry = CollectorRegistry()
    methods = frozenset(Catalog.load().methods())
    requests = RequestMetrics(registry, methods, count)
    with (
        open_database(config, INDEX) as url,
        open_database(config, PRIVATE) as private_url,
    ):

        def serve(process: ServingProcess) -> None:
            requests.process = process.number
            _serve(config, url, private_url, registry, requests, process)

        if count == 1:
            serve(ALONE)
            return
        check_port(config.bind, config.provider_port)
        # Shared memory is made here, threads and connections in the forked processes.
        buckets = SharedBuckets()
        ForkedProcesses(
            count, lambda number: serve(ServingProcess(number, count, buckets))
        ).run()


def _serve(
    config: Config,
    url: str,
    private_url: str,
    registry: CollectorRegistry,
    requests: RequestMetrics,
    process: ServingProcess,
) -> None:
    with open_pool(url, min=0, max=2, name="metrics") as pool:
        registry.register(IndexCollector(pool))
        registry.register(WatchCollector(pool))
        registry.register(LabelerCollector(pool, config.subscribed_labelers))
        if process.is_first:
            serve_metrics(registry, config.bind, config.metrics_port)
        app = create_app(
            config,
            url,
            private_url,
            operator_routes=[metrics_route(registry)],
            observe=requests.observe,
            process=process,
        )
        serving = serve_until_stopped(
            app, config, config.provider_port, is_shared=process.count > 1
        )
        run_async(serving, config)
