"""The pulse of the crawling process: what it does, told to the database."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import psycopg
import structlog
from psycopg_pool import ConnectionPool, PoolTimeout

from crawler.live.firehose import Firehose
from crawler.live.waiting import wait_first
from crawler.settings import CrawlSettings
from service.monitoring.snapshot import CRAWL_PULSE
from storage.pulses import beat

log = structlog.get_logger(__name__)

EVERY_S: Final = 10.0
_SHORT_WAIT: Final = 2.0


def figures(firehose: Firehose, settings: CrawlSettings) -> dict[str, Any]:
    """What a crawling process says of itself."""
    said: dict[str, Any] = {
        "streams": firehose.streams,
        "queue_bytes": settings.queue_bytes * max(1, settings.shards),
    }
    pipeline = firehose.pipeline
    if pipeline is not None:
        said |= {
            "queued_bytes": pipeline.queued_bytes,
            "frames": pipeline.stats.frames,
            "applied": pipeline.stats.applied,
        }
    return said


async def keep_pulse(
    firehose: Firehose,
    settings: CrawlSettings,
    pool: ConnectionPool[psycopg.Connection[Any]],
    stop: asyncio.Event,
) -> None:
    """Beat until `stop`. A database that is away misses beats; nothing else."""

    began = time.monotonic()

    def write() -> None:
        said = figures(firehose, settings)
        said["up_s"] = round(time.monotonic() - began)
        with pool.connection(timeout=_SHORT_WAIT) as conn:
            beat(conn, CRAWL_PULSE, said)

    while not stop.is_set():
        try:
            await asyncio.to_thread(write)
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("pulse_missed", why=str(error))
        await wait_first(stop, seconds=EVERY_S)
