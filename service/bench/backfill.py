"""Whole repos: from another process over HTTP, proven, into Postgres, as the crawling
process fetches them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from crawler.backfill import Backfill, BackfillReport
from crawler.database import Database
from crawler.outside import outside_opener
from network.policy import HostLimits
from service.bench.floor import copy_rate
from service.bench.host import open_host, write_repo
from service.bench.index import (
    Index,
    add_accounts,
    add_host,
    check_repos,
    open_index,
)
from service.bench.metric import Metric, Progress
from service.bench.process import MemoryWatch, server_seconds
from service.bench.society import Society
from service.collector import calm_collector

BENCH: Final = "backfill"

_ACCOUNTS: Final = 60
_RECORDS: Final = 1_500
_QUICK: Final = 20
"""A quick run takes one part in so many accounts."""
_PATIENCE_S: Final = 300.0
# Politeness to one host is not what is measured here.
_HOST_LIMITS: Final = HostLimits(rate=10_000.0, burst=10_000, concurrency=64)


def run(quick: bool, progress: Progress) -> list[Metric]:
    """Repos of widely different sizes into an empty index, several at a time."""
    accounts = _ACCOUNTS // _QUICK if quick else _ACCOUNTS
    society = Society(accounts, records=_RECORDS // 5 if quick else _RECORDS)
    with (
        tempfile.TemporaryDirectory(prefix="bw-host-") as folder,
        open_index() as index,
    ):
        size = 0
        for done, member in enumerate(society.members, 1):
            size += write_repo(Path(folder), member.did, society.car(member))
            progress.count("repos made", done, accounts)
        with open_host(Path(folder)) as url:
            host = add_host(index, url, relay=False)
            add_accounts(index, host, url, society.members)
            index.settle()
            calm_collector()
            server = server_seconds()
            cpu = time.process_time()
            started = time.perf_counter()
            with MemoryWatch() as memory:
                report = asyncio.run(_fetch(index, accounts, progress))
            seconds = time.perf_counter() - started
            cpu = time.process_time() - cpu
            server = server_seconds() - server
        check_repos(index, society.members)
        index.settle()
        records = report.records
        return [
            Metric(
                BENCH,
                "records_per_s",
                records / seconds,
                "records/s",
                copy_rate(index),
            ),
            Metric(BENCH, "records_per_cpu_s", records / cpu, "records/s"),
            Metric(BENCH, "server_us_per_record", server / records * 1e6, "us"),
            Metric(BENCH, "repos_per_s", accounts / seconds, "repos/s"),
            Metric(BENCH, "mib_per_s", size / 2**20 / seconds, "MiB/s"),
            Metric(BENCH, "peak_mib", memory.risen_mib, "MiB"),
        ]


async def _fetch(index: Index, accounts: int, progress: Progress) -> BackfillReport:
    settings = replace(
        index.settings, backfills_per_host=index.settings.backfills_at_once
    )
    opener = outside_opener(index.names, settings, host_limits=_HOST_LIMITS)
    async with opener() as outside:
        backfill = Backfill(settings, Database(index.pool), index.sink, outside)
        task = asyncio.create_task(backfill.run_batch(accounts, seconds=_PATIENCE_S))
        while not task.done():
            await asyncio.wait([task], timeout=0.2)
            progress.count("repos", backfill.report.fetched, accounts)
        return task.result()
