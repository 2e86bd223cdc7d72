"""Backfill of whole repos: over HTTP, verified, into Postgres, a process per core."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from bench.fake_accounts import FakeAccounts
from bench.floor import copy_rate
from bench.host import open_host, write_repo
from bench.index import (
    Index,
    LostError,
    add_accounts,
    add_host,
    check_repos,
    import_repos,
    open_index,
)
from bench.metric import Metric, Progress
from bench.process import MemoryWatch, cpu_seconds
from bench.stored import fill, spread
from crawler.database import Database
from crawler.identities.network_clients import outside_opener
from crawler.repos.backfill import Backfill, BackfillReport
from crawler.settings import CrawlSettings
from network.http.policy import HostLimits
from service.index_sink import IndexSink
from service.runtime.garbage_collection import tune_gc
from storage.postgres.pool import open_pool
from storage.records.interning import Interner

BENCH: Final = "backfill"

_ACCOUNTS: Final = 120
_RECORDS: Final = 1_500
_QUICK: Final = 20
"""Divisor of the number of accounts in a quick run."""
_PATIENCE_S: Final = 300.0
_PROCESSES: Final = max(2, os.cpu_count() or 1)
# The limits per host are not measured here.
_HOST_LIMITS: Final = HostLimits(rate=10_000.0, burst=10_000, concurrency=64)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Result of one process, with its CPU seconds and the rise of its memory."""

    report: BackfillReport
    cpu: float
    risen_mib: float


def run(quick: bool, progress: Progress, *, stored: int = 0) -> list[Metric]:
    """Measure the backfill of repos into an index that holds `stored` records."""
    accounts = _ACCOUNTS // _QUICK if quick else _ACCOUNTS
    with (
        tempfile.TemporaryDirectory(prefix="bw-host-") as folder,
        open_index() as index,
    ):
        fakes = FakeAccounts(0, records=0)
        if stored:
            # Stored records are copies of a few.
            import_repos(index, FakeAccounts(3, seed=2, records=400), progress)
            spread(fakes, fill(index, stored, progress))
        sizes = _sizes(accounts, _RECORDS // 5 if quick else _RECORDS)
        size = 0
        for done, records in enumerate(sizes, 1):
            member = fakes.add(records)
            size += write_repo(Path(folder), member.did, fakes.car(member))
            progress.count("repos made", done, accounts)
        with open_host(Path(folder)) as url, _open_workers(index) as workers:
            host = add_host(index, url, relay=False)
            add_accounts(index, host, url, fakes.members)
            index.settle()
            before = cpu_seconds()
            started = time.perf_counter()
            outcomes = _fetch(workers, accounts)
            seconds = time.perf_counter() - started
            used = cpu_seconds().since(before)
        check_repos(index, fakes.members)
        records = sum(outcome.report.records for outcome in outcomes)
        cpu = sum(outcome.cpu for outcome in outcomes)
        peak = max(outcome.risen_mib for outcome in outcomes)
        floor = None
        if not stored:
            # It copies all rows, so that stored records would distort it.
            index.settle()
            floor = copy_rate(index)
        return [
            Metric(BENCH, "records_per_s", records / seconds, "records/s", floor),
            Metric(BENCH, "records_per_cpu_s", records / cpu, "records/s"),
            # Backends that ended are counted as upkeep.
            Metric(
                BENCH,
                "server_us_per_record",
                (used.server + used.upkeep) / records * 1e6,
                "us",
            ),
            Metric(BENCH, "repos_per_s", accounts / seconds, "repos/s"),
            Metric(BENCH, "mib_per_s", size / 2**20 / seconds, "MiB/s"),
            Metric(BENCH, "peak_mib", peak, "MiB"),
            Metric(BENCH, "stored_records", stored, "records"),
        ]


def _sizes(accounts: int, mean: int) -> list[int]:
    """Return sizes of repos around a mean."""
    rng = random.Random(3)
    return [
        int(min(20 * mean, max(3, mean * rng.lognormvariate(-0.72, 1.2))))
        for _ in range(accounts)
    ]


@contextmanager
def _open_workers(index: Index) -> Iterator[list[Connection]]:
    """Start processes that wait for a number of accounts."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        workers = []
        for _ in range(_PROCESSES):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, index.url, index.settings), daemon=True
            )
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            workers.append(ours)
        for worker in workers:
            _receive(worker)
        yield workers


def _receive(worker: Connection) -> object:
    if not worker.poll(_PATIENCE_S):
        raise LostError("a fetching process does not answer")
    return worker.recv()


def _fetch(workers: list[Connection], accounts: int) -> list[_Outcome]:
    for worker in workers:
        worker.send(accounts)
    outcomes = [_receive(worker) for worker in workers]
    return [outcome for outcome in outcomes if isinstance(outcome, _Outcome)]


def _work(parent: Connection, url: str, settings: CrawlSettings) -> None:
    """Fetch repos until none is left."""
    settings = replace(settings, backfills_per_host=settings.backfills_at_once)
    with open_pool(url, max=16) as pool, open_pool(url, max=4) as names:
        sink = IndexSink(pool, Interner(names), lambda: None)
        opener = outside_opener(names, settings, host_limits=_HOST_LIMITS)

        async def fetch() -> None:
            async with opener() as outside:
                backfill = Backfill(settings, Database(pool), sink, outside)
                parent.send(None)
                limit = await asyncio.to_thread(parent.recv)
                cpu = time.process_time()
                with MemoryWatch() as memory:
                    report = await backfill.run_batch(limit, seconds=_PATIENCE_S)
                cpu = time.process_time() - cpu
                parent.send(_Outcome(report, cpu, memory.risen_mib))

        tune_gc()
        asyncio.run(fetch())
