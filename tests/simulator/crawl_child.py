"""A crawling process for tests that kill it. Imports once, then forks crawlers.

    python crawl_child.py DATABASE_URL WORLD_FILE

Reads one JSON object a line, forks a crawler with these options and prints its pid:

- `planted`: a fault. "cursor_first" saves cursors before their rows. "outbox_first"
  deletes search entries before the engine has them. "highest" resumes a stream from
  its farthest shard. "as_they_are" keeps the cursors of another number of shards.
- `crash_at`: the crash point at which it dies.
- `small_records`: the record limit of repos that are imported in groups.
- `shards`: the number of shard processes.

WORLD_FILE holds changed `settings`, and either `keys` (DID -> host and key) or `plc`,
the URL of a simulated directory; `names` are DNS replies. `drain` feeds the search
engine, `list` compares listings. A crawler that stops writes its memory to `report`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import itertools
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psycopg
from crawl_fakes import FakeResolver, fake_clients

from crawler.hosts.listing_spider import crawl_listings
from crawler.identities.identity_cache import PostgresIdentityCache
from crawler.identities.network_clients import NetworkClients, OpenClients
from crawler.live import reader
from crawler.live.firehose import Firehose
from crawler.repos import repo_import
from crawler.settings import CrawlSettings
from crawler.tasks import CrawlTasks
from indexer.collections.texts import TEXTS
from indexer.index_writer import IndexWriter
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.http.urls import Target
from network.identity.resolver import IdentityLimits, IdentityResolver
from network.streams.stream_events import StreamTimes
from protocol.events.event import Event
from search.drain import drain_outbox
from search.engines.postgres import PostgresEngine
from service.shards import ShardPlan
from storage import cursors
from storage.cursors import save_cursors
from storage.outbox import delete_outbox, take_outbox
from storage.postgres import crashpoint
from storage.postgres.pool import Conn, open_pool
from storage.records.interning import Interner

SETTINGS: Mapping[str, Any] = {
    "dev": True,
    "account_cap": None,
    "host_rescan": 0.05,
    "batch_events": 40,
    "batch_wait": 0.01,
    "flush_interval": 0.2,
    "backfill_lease": 1.0,
    "backfill_idle": 0.05,
}
TIMES: Mapping[str, float] = {"first": 0.02, "longest": 0.1, "contact_after": 0.5}
_PR_SET_PDEATHSIG = 1
_PUBLIC = ipaddress.ip_network("127.7.0.0/16")
_NAMED = re.compile(r"(http|ws)://([a-z0-9.-]+\.sim\.net):(\d+)(/[^?]*)?(?:\?(.*))?")


class SimulatedPolicy(Policy):
    """127.7.0.0/16 is the internet. Names under sim.net are resolved by the simulated
    DNS, on any port and in plain http."""

    __slots__ = ()

    def may_dial(self, address: str) -> bool:
        return ipaddress.ip_address(address) in _PUBLIC

    def parse(self, url: str) -> Target:
        match = _NAMED.fullmatch(url)
        if match is None:
            return Policy.parse(self, url)
        scheme, host, port, path, query = match.groups()
        return Target(scheme, host, int(port), path or "/", query or "")


class SimulatedNames:
    """DNS: each name has a cycle of replies."""

    def __init__(self, names: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._answers = {name: itertools.cycle(all_) for name, all_ in names.items()}

    async def __call__(self, host: str) -> Sequence[str]:
        if host not in self._answers:
            raise OSError(f"{host} is unknown")
        return next(self._answers[host])


async def no_records(name: str) -> Sequence[str]:
    """Return no TXT records."""
    return ()


class CursorFirstSink(IndexWriter):
    """A planted fault: the cursor runs ahead of the data."""

    def apply(
        self, events: Sequence[Event], marks: Mapping[int, int], **more: Any
    ) -> Any:
        with self._pool.connection() as conn:
            save_cursors(conn, marks, shard=self._shard)
        time.sleep(0.005)
        return super().apply(events, {}, **more)


class UnevenSink(IndexWriter):
    """Not a fault: makes the first shard faster than the others."""

    def apply(
        self, events: Sequence[Event], marks: Mapping[int, int], **more: Any
    ) -> Any:
        time.sleep(0.25 if self._shard else 0.0)
        return super().apply(events, marks, **more)


def resume_highest(conn: Conn, host: int, *, shards: int = 1) -> int | None:
    """Plant a fault: resume from the farthest shard."""
    row = conn.execute(
        "SELECT max(seq) FROM host_cursor WHERE host = %s", (host,)
    ).fetchone()
    assert row is not None
    cursors.start_stream(conn, host, row[0], shards=shards)
    return int(row[0])


def resume_as_they_are(conn: Conn, host: int, *, shards: int = 1) -> int | None:
    """Plant a fault: keep the rows that another number of shards wrote."""
    row = conn.execute(
        "SELECT min(seq) FROM host_cursor WHERE host = %s AND shard < %s",
        (host, shards),
    ).fetchone()
    assert row is not None
    return None if row[0] is None else int(row[0])


SINKS = {
    "cursor_first": CursorFirstSink,
    "highest": UnevenSink,
    "as_they_are": UnevenSink,
}
RESUMES = {"highest": resume_highest, "as_they_are": resume_as_they_are}


def drain_outbox_first(conn: Conn, engine: Any, texts: Any, limit: int) -> int:
    """Plant a fault: delete entries, then wait for a kill before indexing them."""
    with conn.transaction():
        entries = take_outbox(conn, limit)
        delete_outbox(conn, [number for number, _, _ in entries])
    if entries:
        time.sleep(3_600.0)
    return 0


def clients_opener(world: Mapping[str, Any], settings: CrawlSettings) -> Any:
    """Return an opener of network clients, for a directory in memory or simulated."""
    if "plc" not in world:
        resolver = FakeResolver()
        for did, (pds, key) in world["keys"].items():
            resolver.put(did, pds, key)

        def open_fake(pool: Any) -> OpenClients:
            resolver.pool = pool
            return fake_clients(resolver)  # type: ignore[no-any-return]

        return open_fake
    limits = HostLimits(rate=10_000, burst=1_000, concurrency=64)
    policy = SimulatedPolicy(
        allow_loopback=True, limits=limits, **world.get("policy", {})
    )

    def opener(pool: Any) -> OpenClients:
        @contextlib.asynccontextmanager
        async def open_clients() -> AsyncIterator[NetworkClients]:
            names = SimulatedNames(world.get("names", {}))
            async with Fetcher(policy, lookup=names) as fetcher:
                resolver = IdentityResolver(
                    fetcher,
                    world["plc"],
                    PostgresIdentityCache(pool),
                    no_records,
                    dev=True,
                    dev_pds=[world["plc"]],
                    limits=IdentityLimits(
                        refresh_interval=settings.refresh_interval,
                        plc_rate=10_000,
                        breaker_pause=0.2,
                    ),
                )
                yield NetworkClients(fetcher, resolver)

        return open_clients

    return opener


def crawl(url: str, world: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    """Crawl until SIGTERM."""
    if "crash_at" in start:
        crashpoint.arm(start["crash_at"])
    if "small_records" in start:
        repo_import.SMALL_RECORDS = start["small_records"]  # type: ignore[misc]
    settings = CrawlSettings(
        shards=start.get("shards", 1), **(SETTINGS | world.get("settings", {}))
    )
    planted = start.get("planted")
    if planted in RESUMES:
        reader.cursors.resume_stream = RESUMES[planted]  # type: ignore[attr-defined]
    with (
        open_pool(url, max=16) as pool,
        open_pool(url, max=4) as names,
        contextlib.ExitStack() as stack,
    ):
        kind = SINKS.get(str(planted), IndexWriter)
        sink = kind(pool, Interner(names), lambda: None)
        open_clients = clients_opener(world, settings)(pool)
        if world.get("drain"):
            drain = drain_outbox_first if planted == "outbox_first" else drain_outbox
            stack.enter_context(draining(pool, drain))
        tasks = CrawlTasks(settings, pool, sink, open_clients)
        firehose = Firehose(
            settings,
            url,
            pool,
            sink,
            open_clients,
            list_due=tasks.list_repos if world.get("list") else None,
            times=StreamTimes(**(TIMES | world_times(world))),
            start_shard=ShardPlan(
                settings, url, log_level="error", make_sink=kind
            ).start,
        )

        async def run() -> None:
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            await firehose.run(stop)

        asyncio.run(run())
    if "report" in world:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        Path(world["report"]).write_text(json.dumps({"peak_mib": peak}))


def world_times(world: Mapping[str, Any]) -> dict[str, float]:
    return dict(world.get("times", {}))


@contextlib.contextmanager
def draining(pool: Any, drain: Callable[..., int]) -> Any:
    """Feed the search engine in a thread while the block runs."""
    ended = threading.Event()

    def work() -> None:
        engine = PostgresEngine(pool)
        while not ended.wait(0.02):
            with contextlib.suppress(psycopg.Error), pool.connection() as conn:
                drain(conn, engine, TEXTS, 50)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def main() -> None:
    url, world = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    if world.get("list"):
        # An empty crawl imports what the first listing would import.
        asyncio.run(crawl_listings(None, None, []))  # type: ignore[arg-type]
    # Children are killed and never waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # One fork server for the shards of all crawlers.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    multiprocessing.set_forkserver_preload(["lasting_forks", "service.shards"])
    forkserver.ensure_running()
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[attr-defined]
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # No crawler outlives its test.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            try:
                crawl(url, world, json.loads(line))
            except BaseException as error:
                sys.stderr.write(f"crawler failed: {error!r}\n")
            finally:
                os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
