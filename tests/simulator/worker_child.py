"""A Celery worker with its beat, whose crawl goes into the simulated network.

    python worker_child.py DATABASE_URL BROKER_URL WORLD_FILE

WORLD_FILE is that of `crawl_child`. No stream is read: the scheduled tasks find
everything, many times as often as in production. With `planted` the repos to fetch are
kept in broker messages only.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import structlog
from celery import Celery
from crawl_child import SETTINGS, clients_opener
from prometheus_client import CollectorRegistry

from crawler.settings import CrawlSettings
from crawler.tasks import CrawlTasks
from indexer.index_writer import IndexWriter
from search.engines.postgres import PostgresEngine
from service.crawling import WriteSide
from service.monitoring.metrics import TaskMetrics
from service.runtime.celery_app import QUEUE, make_celery, run_worker, schedule
from service.runtime.config import Config
from service.tasks import TASKS, register
from storage.postgres.pool import open_pool
from storage.records.interning import Interner
from storage.repos import repo_rows

EVERY_S: Mapping[str, float] = {
    "poll_quiet_hosts": 0.5,
    "hand_out_backfills": 0.5,
    "refresh_identities": 1.0,
    "drain_search": 0.5,
    "purge_deleted": 1.0,
    "trim_identities": 1.0,
    "refresh_words": 2.0,
}
_PR_SET_PDEATHSIG = 1
_BY_MESSAGE = 50


def hand_out_by_message(app: Celery, side: WriteSide) -> None:
    """Plant a fault: keep work in the broker and nowhere else."""

    @app.task(name="hand_out_backfills")
    def hand_out() -> None:
        with side.pool.connection() as conn:
            claimed = repo_rows.claim_repos(
                conn, limit=_BY_MESSAGE, lease_s=86_400.0, per_host=_BY_MESSAGE
            )
        for repo in claimed:
            app.send_task("fetch_one", [repo.actor], queue=QUEUE)

    @app.task(name="fetch_one")
    def fetch_one(actor: int) -> None:
        with side.pool.connection() as conn:
            conn.execute("UPDATE repo SET lease_until = NULL WHERE actor = %s", [actor])
        side.tasks.hand_out_backfills(1)


def main() -> None:
    url, broker_url = sys.argv[1:3]
    file = Path(sys.argv[3])
    logging.basicConfig(level=logging.ERROR)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    world: dict[str, Any] = json.loads(file.read_text())
    # No worker or beat outlives its test.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    settings = CrawlSettings(**(SETTINGS | world["settings"]))
    config = Config.read(home=file.parent / "home", log_level="error")
    os.makedirs(config.home, exist_ok=True)
    with open_pool(url, max=16) as pool, open_pool(url, max=4) as names:
        engine, interner = PostgresEngine(pool), Interner(names)
        sink = IndexWriter(pool, interner, lambda: None)
        open_clients = clients_opener(world, settings)(pool)
        side = WriteSide(
            config,
            settings,
            url,
            pool,
            engine,
            # Nobody saves a search here.
            private=MagicMock(),
            log_matches=lambda conn, documents: None,
            index=sink,
            open_clients=open_clients,
            tasks=CrawlTasks(settings, pool, sink, open_clients),
            on_written=lambda: None,
            interner=interner,
            audit_per_hour=0.0,
        )
        app = make_celery(broker_url, config)
        if world.get("planted"):
            # The first of two tasks with one name counts.
            hand_out_by_message(app, side)
        register(app, side, TaskMetrics(CollectorRegistry(), TASKS.keys()))
        schedule(app, EVERY_S)
        sys.exit(run_worker(app, config, beat=True))


if __name__ == "__main__":
    main()
