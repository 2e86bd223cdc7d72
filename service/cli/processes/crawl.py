"""`bigworld crawl`: the live ingest as a process."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from crawler.database import Database
from crawler.live.firehose import Firehose
from crawler.scope.reconciler import ScopeReconciler
from labels.label_rows import forget_watching
from labels.label_stream import LabelStream, follow_labelers
from service.cli.processes.running_process import run_async, stop_event
from service.crawling import WriteSide, add_configured_hosts, open_write_side
from service.monitoring.heartbeat import keep_heartbeat
from service.monitoring.metrics import CrawlCollector, IndexCollector, serve_metrics
from service.runtime.config import Config
from service.runtime.crawl_settings import check_targets
from service.runtime.databases import INDEX, PRIVATE, open_database
from service.runtime.garbage_collection import tune_gc
from service.shards import ShardPlan
from storage.postgres.pool import Conn
from storage.postgres.transaction import retry_conflicts
from storage.repos.scope_rows import ScopeKind, load_scope, set_scope

log = structlog.get_logger(__name__)

_TRIES: Final = 5


def run(config: Config) -> None:
    """Crawl until a stop signal, then finish what is queued."""
    check_targets(config)
    with (
        open_database(config, INDEX) as url,
        open_database(config, PRIVATE) as private_url,
        open_write_side(config, url, private_url) as side,
    ):
        add_configured_hosts(config, side)
        _apply_scope(config, side)
        tune_gc()
        run_async(_crawl(config, side), config)


def apply_scope(conn: Conn, config: Config) -> bool:
    """Set the scope of the settings, if they changed since they were last applied.

    A scope set by a command stays until then. Does not commit.
    """
    kind = ScopeKind(config.scope or ("dids" if config.dids else "network"))
    seeds = config.dids if kind in (ScopeKind.DIDS, ScopeKind.FOLLOWS) else ()
    named = [kind, sorted(seeds), sorted(config.collections)]
    text = json.dumps([*named, sorted(config.keep)] if config.keep else named)
    if load_scope(conn).settings == text:
        return False
    set_scope(
        conn,
        kind,
        seeds=seeds,
        collections=config.collections,
        keep=config.keep,
        settings=text,
    )
    return True


@retry_conflicts
def _apply_scope(config: Config, side: WriteSide) -> None:
    with side.pool.connection() as conn:
        apply_scope(conn, config)


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
        group.create_task(_reconcile_scope(side, stop))
        group.create_task(_follow_labelers(config, side, stop))
        group.create_task(firehose.run(stop))
        group.create_task(keep_heartbeat(firehose, side.settings, side.pool, stop))
    log.info("stopped")


async def _follow_labelers(
    config: Config, side: WriteSide, stop: asyncio.Event
) -> None:
    async with side.open_clients() as outside:
        streams = [
            LabelStream(
                did, outside.fetcher, outside.resolver, side.pool, side.interner
            )
            for did in config.subscribed_labelers
        ]
        await asyncio.to_thread(_forget_other_labelers, config, side)
        await follow_labelers(streams, stop)


def _forget_other_labelers(config: Config, side: WriteSide) -> None:
    """Raise no alarm for labelers that are followed no more."""
    kept = side.interner.actors(config.subscribed_labelers)
    with side.pool.connection() as conn:
        forget_watching(conn, [*kept.values()])


async def _reconcile_scope(side: WriteSide, stop: asyncio.Event) -> None:
    database = Database(side.pool, most_tries=_TRIES)
    async with side.open_clients() as outside:
        keeper = ScopeReconciler(
            side.settings,
            database,
            outside,
            side.index.remove_out_of_scope,
            side.index.keep_wanted,
        )
        await keeper.run(stop)
