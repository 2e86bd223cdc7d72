"""Heartbeat of the crawl, with its figures, in the database."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import psycopg
import structlog
from anyio import to_thread
from psycopg_pool import PoolTimeout

from crawler.live.firehose import Firehose
from crawler.live.waiting import wait_first
from crawler.settings import CrawlSettings
from service.monitoring.snapshot import CRAWL_PULSE
from storage.heartbeats import beat
from storage.postgres.pool import Pool

log = structlog.get_logger(__name__)

EVERY_S: Final = 10.0
_SHORT_WAIT: Final = 2.0


def figures(firehose: Firehose, settings: CrawlSettings) -> dict[str, Any]:
    """Return the figures of the crawling process."""
    found: dict[str, Any] = {
        "streams": firehose.streams,
        "queue_bytes": settings.queue_bytes * max(1, settings.shards),
    }
    pipeline = firehose.pipeline
    if pipeline is not None:
        found |= {
            "queued_bytes": pipeline.queued_bytes,
            "frames": pipeline.stats.frames,
            "applied": pipeline.stats.applied,
        }
    return found


async def keep_heartbeat(
    firehose: Firehose, settings: CrawlSettings, pool: Pool, stop: asyncio.Event
) -> None:
    """Write heartbeats until `stop`; skip those that the database cannot take."""

    began = time.monotonic()

    def write() -> None:
        found = figures(firehose, settings)
        found["up_s"] = round(time.monotonic() - began)
        with pool.connection(timeout=_SHORT_WAIT) as conn:
            beat(conn, CRAWL_PULSE, found)

    while not stop.is_set():
        try:
            await to_thread.run_sync(write)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("heartbeat_failed", why=str(error))
        await wait_first(stop, seconds=EVERY_S)
