"""Ingest of commits: from a socket to committed rows.

A fake host in its own process sends frames over a WebSocket; a crawl with its shards
reads, verifies and writes them. Progress is read from the cursors in the database. The
search outbox is not drained.

Frames are generated beforehand. The CPU time of the fake host is reported apart.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from bench.disk import measure_disk
from bench.fake_accounts import FakeAccounts
from bench.floor import copy_rate, signature_rate
from bench.host import open_host, write_frames
from bench.index import (
    ELSEWHERE,
    Index,
    add_accounts,
    add_host,
    check_repos,
    import_repos,
    open_index,
)
from bench.metric import Metric, Progress, median
from bench.process import Cpu, cpu_seconds
from bench.stored import fill, spread
from crawler.identities.network_clients import outside_opener
from crawler.live.firehose import Firehose
from crawler.settings import MIB
from protocol.events.frames import decode_frame
from service.runtime.garbage_collection import tune_gc
from service.shards import ShardPlan
from storage.cursors import save_cursors

BENCH: Final = "ingest"

_ACCOUNTS: Final = 250
_RECORDS: Final = 200
_FRAMES: Final = 20_000
_QUICK: Final = 20
"""Divisor of all sizes in a quick run."""
_SEGMENTS: Final = 5
_FLOOR_FRAMES: Final = 2_000
_PATIENCE_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.1
_QUEUE_BYTES: Final = 4 * MIB


@dataclass(frozen=True, slots=True)
class _Mark:
    """Commits and CPU time at a moment in seconds."""

    at: float
    commits: int
    cpu: Cpu


def run(
    quick: bool, progress: Progress, *, stored: int = 0, shards: int = 1
) -> list[Metric]:
    """Measure the ingest of frames into an index that also holds `stored` records."""
    part = _QUICK if quick else 1
    fakes = FakeAccounts(_ACCOUNTS // part, records=_RECORDS)
    with (
        tempfile.TemporaryDirectory(prefix="bw-host-") as folder,
        open_index() as index,
    ):
        import_repos(index, fakes, progress)
        if stored:
            spread(fakes, fill(index, stored, progress))
        count = _FRAMES // part
        frames = _counted(fakes, count, progress)
        write_frames(Path(folder), frames)
        with open_host(Path(folder)) as url:
            host = add_host(index, url, relay=True)
            add_accounts(index, host, ELSEWHERE, fakes.members)
            with index.pool.connection() as conn:
                # Zero is before the first event of the host.
                save_cursors(conn, {host: 0})
            index.settle()
            tune_gc()
            marks = asyncio.run(_follow(index, count, shards, progress))
        check_repos(index, fakes.members)
        floor = signature_rate(frames[:_FLOOR_FRAMES], fakes.keys)
        # It copies all rows, so that stored records would distort it.
        copied = None if stored else copy_rate(index)
        return [
            *_rates(marks, count_ops(frames), floor, copied),
            *measure_disk(index, BENCH),
        ]


def _counted(fakes: FakeAccounts, count: int, progress: Progress) -> Sequence[bytes]:
    frames = []
    for frame in fakes.frames(count, others=False):
        frames.append(frame)
        if len(frames) % 100 == 0 or len(frames) == count:
            progress.count("frames", len(frames), count)
    return frames


def count_ops(frames: Sequence[bytes]) -> float:
    """Return the average number of operations per frame."""
    return sum(len(decode_frame(raw).body["ops"]) for raw in frames) / len(frames)


async def _follow(
    index: Index, count: int, shards: int, progress: Progress
) -> list[_Mark]:
    """Crawl until all frames of the host are committed."""
    # A large queue would take a third of all frames before the clock starts.
    settings = replace(index.settings, shards=shards, queue_bytes=_QUEUE_BYTES)
    generators = {child.pid for child in psutil.Process().children()}
    firehose = Firehose(
        settings,
        index.url,
        index.pool,
        index.sink,
        outside_opener(index.names, settings),
        start_shard=ShardPlan(settings, index.url, log_level="warning").start,
    )
    stop = asyncio.Event()
    deadline = time.monotonic() + _PATIENCE_S
    task = asyncio.create_task(firehose.run(stop))
    marks: list[_Mark] = []

    async def mark(commits: int) -> None:
        # Summing up the times of processes takes milliseconds of the measured process,
        # so it is done only a few times.
        cpu = await asyncio.to_thread(cpu_seconds, generators)
        marks.append(_Mark(time.perf_counter(), commits, cpu))

    try:
        done = 0
        await mark(done)
        while done < count and not task.done() and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_EVERY_S)
            done = await asyncio.to_thread(_committed, index)
            if done >= min(marks[-1].commits + count // _SEGMENTS, count):
                await mark(done)
            progress.count("commits", min(done, count), count)
    finally:
        stop.set()
        await task
    return marks


def _committed(index: Index) -> int:
    return int(index.ask("SELECT coalesce(min(seq), 0) FROM host_cursor"))


def _rates(
    marks: Sequence[_Mark], ops: float, signatures: float, copied: float | None
) -> list[Metric]:
    """Return the rates after a warm-up of one fifth of the frames."""
    spans = list(itertools.pairwise(marks))
    # The first span fills caches and plans queries.
    steady = spans[1:] or spans
    start, end = steady[0][0], steady[-1][1]
    commits = median([_rate(a, b) for a, b in steady])
    number = max(end.commits - start.commits, 1)
    crawler, server, upkeep, generator = (
        seconds / number for seconds in end.cpu.since(start.cpu)
    )
    return [
        Metric(BENCH, "commits_per_s", commits, "commits/s", signatures),
        Metric(BENCH, "commits_per_cpu_s", 1 / max(crawler, 1e-9), "commits/s"),
        Metric(
            BENCH,
            "commits_per_two_cpu_s",
            2 / max(crawler + server + upkeep, 1e-9),
            "commits/s",
            2 * signatures,
        ),
        Metric(BENCH, "records_per_s", commits * ops, "records/s", copied),
        Metric(BENCH, "crawler_us_per_commit", crawler * 1e6, "us"),
        Metric(BENCH, "server_us_per_commit", server * 1e6, "us"),
        Metric(BENCH, "upkeep_us_per_commit", upkeep * 1e6, "us"),
        Metric(BENCH, "generator_us_per_commit", generator * 1e6, "us"),
    ]


def _rate(start: _Mark, end: _Mark) -> float:
    return (end.commits - start.commits) / max(end.at - start.at, 1e-9)
