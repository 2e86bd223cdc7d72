"""`bigworld crawl`: the live ingest as a process."""

from __future__ import annotations

import asyncio

import structlog
from prometheus_client import CollectorRegistry

from crawler.live.firehose import Firehose
from indexer.transaction import retry_conflicts
from service.cli.verbs.running_process import run_async, stop_event
from service.crawling import WriteSide, add_configured_hosts, open_write_side
from service.monitoring.heartbeat import keep_pulse
from service.monitoring.metrics import CrawlCollector, IndexCollector, serve_metrics
from service.runtime.config import Config
from service.runtime.crawl_settings import check_targets
from service.runtime.databases import INDEX, open_database
from service.runtime.garbage_collection import calm_interpreter
from service.scoping import apply_settings, keep_scope
from service.shards import ShardPlan

log = structlog.get_logger(__name__)


def run(config: Config) -> None:
    """Crawl until told to stop; what was queued is finished first."""
    check_targets(config)
    with (
        open_database(config, INDEX) as url,
        open_write_side(config, url) as side,
    ):
        add_configured_hosts(config, side)
        _apply_settings(config, side)
        calm_interpreter()
        run_async(_crawl(config, side), config)


@retry_conflicts
def _apply_settings(config: Config, side: WriteSide) -> None:
    with side.pool.connection() as conn:
        apply_settings(conn, config)


async def _crawl(config: Config, side: WriteSide) -> None:
    stop = stop_event()
    firehose = Firehose(
        side.settings,
        side.url,
        side.pool,
        side.index,
        side.open_clients,
        list_due=side.tasks.list_repos,
        start_shard=ShardPlan(
            side.settings, side.url, config.log_format, config.log_level
        ).start,
        on_written=side.on_written,
    )
    registry = CollectorRegistry()
    registry.register(CrawlCollector(firehose))
    registry.register(IndexCollector(side.pool))
    serve_metrics(registry, config.bind, config.metrics_port)
    log.info("crawling", hosts=list(config.hosts), relays=list(config.relays))
    async with asyncio.TaskGroup() as group:
        group.create_task(keep_scope(side, stop))
        group.create_task(firehose.run(stop))
        group.create_task(keep_pulse(firehose, side.settings, side.pool, stop))
    log.info("stopped")
