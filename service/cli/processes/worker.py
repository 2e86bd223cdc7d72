"""`bigworld worker` and `bigworld beat`: the scheduled tasks as processes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service.crawling import open_write_side
from service.monitoring.metrics import TaskMetrics, serve_metrics
from service.runtime.celery_app import make_celery, run_beat, run_worker, schedule
from service.runtime.config import Config
from service.runtime.databases import INDEX, PRIVATE, open_broker, open_database
from service.runtime.garbage_collection import tune_gc
from service.tasks import TASKS, intervals, register


def run(config: Config, *, beat: bool) -> int:
    """Run tasks, with `beat` also the schedule; return the exit code."""
    registry = CollectorRegistry()
    metrics = TaskMetrics(registry, TASKS.keys())
    serve_metrics(registry, config.bind, config.metrics_port)
    with (
        open_broker(config) as broker_url,
        open_database(config, INDEX) as url,
        open_database(config, PRIVATE) as private_url,
        open_write_side(config, url, private_url) as side,
    ):
        app = make_celery(broker_url, config)
        register(app, side, metrics)
        schedule(app, intervals())
        tune_gc()
        return run_worker(app, config, beat=beat)


def run_schedule(config: Config) -> None:
    """Schedule the periodic tasks until a stop signal."""
    serve_metrics(CollectorRegistry(), config.bind, config.metrics_port)
    with open_broker(config) as broker_url:
        app = make_celery(broker_url, config)
        schedule(app, intervals())
        run_beat(app, config)
