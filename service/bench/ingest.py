"""The whole way of a commit: from a socket to rows that are committed, in one process.

Nothing is left out. A made-up host, in a process of its own, sends frames over a real
WebSocket; the crawling process as `bigworld crawl` runs it reads, proves and writes
them. Only the drain of the search outbox is not running: rows wait in the outbox.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crawler.firehose import Firehose
from crawler.outside import outside_opener
from protocol.events import Event
from protocol.syntax import Did, Handle
from service.bench.disk import measure_disk
from service.bench.floor import copy_rate, signature_rate
from service.bench.host import open_host, read_frames, write_frames
from service.bench.index import (
    ELSEWHERE,
    Index,
    add_accounts,
    add_host,
    check_repos,
    import_repos,
    open_index,
)
from service.bench.metric import Metric, Progress, median
from service.bench.process import server_seconds
from service.bench.society import Society
from service.collector import calm_collector
from service.index_sink import BatchOutcome, IndexImport, IndexSink
from storage.cursors import save_cursors

BENCH: Final = "ingest"

_ACCOUNTS: Final = 250
_RECORDS: Final = 200
_FRAMES: Final = 12_000
_QUICK: Final = 20
"""A quick run takes one part in so many of everything."""
_SEGMENTS: Final = 5
_FLOOR_FRAMES: Final = 2_000
_PATIENCE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class _Mark:
    """What had been committed at a moment; times in seconds."""

    at: float
    commits: int
    records: int
    cpu: float


class _Watch:
    """A sink that notes when each batch was committed."""

    def __init__(self, sink: IndexSink) -> None:
        self._sink = sink
        self.marks: list[_Mark] = []
        self._commits = 0
        self._records = 0

    def apply(
        self, events: Sequence[Event], cursors: Mapping[int, int]
    ) -> BatchOutcome:
        outcome = self._sink.apply(events, cursors)
        self._commits += len(events)
        self._records += sum(len(getattr(event, "ops", ())) for event in events)
        self.marks.append(
            _Mark(
                time.perf_counter(), self._commits, self._records, time.process_time()
            )
        )
        return outcome

    def checkout(self, did: Did, host: int) -> AbstractContextManager[IndexImport]:
        return self._sink.checkout(did, host)

    def set_handle(self, did: Did, handle: Handle | None) -> None:
        self._sink.set_handle(did, handle)


def run(quick: bool, progress: Progress) -> list[Metric]:
    """Frames from the generator, through everything, into an index that holds the
    repos they go on from."""
    part = _QUICK if quick else 1
    society = Society(_ACCOUNTS // part, records=_RECORDS)
    with (
        tempfile.TemporaryDirectory(prefix="bw-host-") as folder,
        open_index() as index,
    ):
        import_repos(index, society, progress)
        count = _FRAMES // part
        write_frames(Path(folder), _counted(society, count, progress))
        with open_host(Path(folder)) as url:
            host = add_host(index, url, relay=True)
            add_accounts(index, host, ELSEWHERE, society.members)
            with index.pool.connection() as conn:
                # Zero is the beginning of what the host keeps.
                save_cursors(conn, {host: 0})
            index.settle()
            server = server_seconds()
            watch = _Watch(index.sink)
            calm_collector()
            asyncio.run(_follow(index, watch, count, progress))
            server = server_seconds() - server
        check_repos(index, society.members)
        frames = list(read_frames(Path(folder)))[:_FLOOR_FRAMES]
        floor = signature_rate(frames, society.keys)
        return [
            *_rates(watch.marks, server, floor, copy_rate(index)),
            *measure_disk(index, BENCH),
        ]


def _counted(society: Society, count: int, progress: Progress) -> Sequence[bytes]:
    frames = []
    for frame in society.frames(count, others=False):
        frames.append(frame)
        if len(frames) % 100 == 0 or len(frames) == count:
            progress.count("frames", len(frames), count)
    return frames


async def _follow(index: Index, watch: _Watch, count: int, progress: Progress) -> None:
    """Crawl until everything that the host sends has been committed."""
    firehose = Firehose(
        index.settings,
        index.url,
        index.pool,
        watch,
        outside_opener(index.names, index.settings),
    )
    stop = asyncio.Event()
    deadline = time.monotonic() + _PATIENCE_S
    task = asyncio.create_task(firehose.run(stop))
    try:
        done = 0
        while done < count and not task.done() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            done = firehose.pipeline.stats.events if firehose.pipeline else 0
            progress.count("commits", min(done, count), count)
    finally:
        stop.set()
        await task


def _rates(
    marks: Sequence[_Mark], server: float, signatures: float, copied: float
) -> list[Metric]:
    """Rates between commits, the first fifth of the frames being the warm-up."""
    first, last = marks[0], marks[-1]
    size = last.commits / _SEGMENTS
    edges = [first]
    for mark in marks:
        if mark.commits >= edges[-1].commits + size or (
            mark is last and len(edges) == 1
        ):
            edges.append(mark)
    spans = list(itertools.pairwise(edges))
    # The first span fills caches and makes plans.
    steady = spans[1:] or spans
    commits = median([_rate(a, b, "commits", "at") for a, b in steady])
    records = median([_rate(a, b, "records", "at") for a, b in steady])
    of_cpu = median([_rate(a, b, "commits", "cpu") for a, b in steady])
    return [
        Metric(BENCH, "commits_per_s", commits, "commits/s", signatures),
        Metric(BENCH, "commits_per_cpu_s", of_cpu, "commits/s", signatures),
        Metric(BENCH, "records_per_s", records, "records/s", copied),
        Metric(BENCH, "server_us_per_commit", server / last.commits * 1e6, "us"),
    ]


def _rate(start: _Mark, end: _Mark, what: str, clock: str) -> float:
    number: float = getattr(end, what) - getattr(start, what)
    seconds: float = getattr(end, clock) - getattr(start, clock)
    return number / max(seconds, 1e-9)
