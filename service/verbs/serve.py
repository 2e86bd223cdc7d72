"""`bigworld serve`: the provider as a process."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from appview.app import AppView
from network.xrpc_server import XrpcServer
from service.config import Config
from service.databases import INDEX, open_database
from service.metrics import IndexCollector, RequestMetrics, metrics_route
from service.provider import create_app
from service.verbs.running import run_async, serve_until_stopped


def run(config: Config) -> None:
    """Serve search, feeds and views until told to stop."""
    registry = CollectorRegistry()
    methods: list[str] = []
    requests = RequestMetrics(registry, lambda: methods)

    def routes(app: AppView, server: XrpcServer) -> Sequence[BaseRoute]:
        methods.extend(server.methods)
        registry.register(IndexCollector(app.pool))
        return [metrics_route(registry)]

    with open_database(config, INDEX) as url:
        app = create_app(config, url, extra_routes=routes, observe=requests.observe)
        run_async(serve_until_stopped(app, config, config.provider_port), config)
