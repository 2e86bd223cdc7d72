"""The crawling process: streams, verification, batches, repo fetches.

- supervise: opens and closes a reader for each host, as the host table says
- pipeline: verifies and applies frames, in two threads; or
- router: distributes frames to shards, processes with such a pipeline each
- backfill: fetches the repos that are not synchronized
- lookups: resolves accounts whose frames were dropped
- identities: refreshes DID documents and handles

An advisory lock allows one such process for a database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg

from crawler.database import Database, StoppedError
from crawler.identities.account_lookups import AccountLookups
from crawler.identities.identity_refresh import IdentityRefresh
from crawler.identities.network_clients import NetworkClients, OpenClients
from crawler.live.gate import Gate
from crawler.live.pipeline import Pipeline
from crawler.live.reader import StreamReader
from crawler.live.waiting import wait_first
from crawler.repos.backfill import Backfill
from crawler.settings import CrawlSettings
from crawler.shards.router import Router
from crawler.shards.shard_link import StartShard
from crawler.shards.shard_wire import Wake
from indexer.index_writer import IndexWriter
from network.streams.stream_events import StreamTimes
from storage.hosts import host_rows
from storage.postgres import leases
from storage.postgres.pool import Conn, Pool, connect

log = logging.getLogger(__name__)

_LOCK_RETRY: Final = 2.0
# Shards of a killed router end soon.
_SHARDS_RETRY: Final = 0.05


class _UsurpedError(Exception):
    """The lock was lost with its connection, and another crawler holds it."""


class Firehose:
    """The crawler: `run` it until a stop event is set.

    `url` is the index database, `pool` a pool on it. `list_due` is called in a thread
    when listings may be due. `start_shard` starts a shard, and `on_written` is called
    when one has written documents.
    """

    def __init__(
        self,
        settings: CrawlSettings,
        url: str,
        pool: Pool,
        index: IndexWriter,
        open_clients: OpenClients,
        *,
        list_due: Callable[[], Any] | None = None,
        times: StreamTimes | None = None,
        start_shard: StartShard | None = None,
        on_written: Callable[[], None] = lambda: None,
    ) -> None:
        if settings.shards > 1 and start_shard is None:
            raise ValueError("shards need a way to be started")
        self._settings = settings
        self._url = url
        self._index = index
        self._open_clients = open_clients
        self._list_due = list_due
        self._times = times
        self._start_shard = start_shard
        self._on_written = on_written
        self._database = Database(pool)
        self._usurped = False
        self._lock: Conn | None = None
        self._readers: dict[int, asyncio.Task[None]] = {}
        self.pipeline: Pipeline | Router | None = None

    @property
    def streams(self) -> int:
        """Return the number of running readers."""
        return len(self._readers)

    async def run(self, stop: asyncio.Event) -> None:
        """Crawl until `stop`. Raises what the pipeline failed on, if it did."""
        warned = False
        try:
            while not stop.is_set():
                if await asyncio.to_thread(self._hold_lock):
                    await self._wait_for_shards(stop)
                    async with self._open_clients() as clients:
                        await self._crawl(clients, stop)
                    if not self._usurped:
                        return
                if not warned:
                    log.warning("another_crawler_runs")
                    warned = True
                await wait_first(stop, seconds=_LOCK_RETRY)
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _hold_lock(self) -> bool:
        """Take the lock, or check that its connection still holds it."""
        try:
            if self._lock is not None:
                self._lock.execute("SELECT 1")
                return True
        except psycopg.OperationalError:
            self._lock = None
        try:
            conn = connect(self._url)
        except psycopg.OperationalError:
            return False
        conn.autocommit = True
        if leases.hold_crawler(conn):
            self._lock = conn
            self._usurped = False
            return True
        self._usurped = True
        conn.close()
        return False

    async def _wait_for_shards(self, stop: asyncio.Event) -> None:
        """Wait for the previous router's shards: their cursors assume another
        partitioning."""
        while not stop.is_set():
            left = await asyncio.to_thread(self._database.run, leases.count_shards)
            if not left:
                return
            await wait_first(stop, seconds=_SHARDS_RETRY)

    async def _crawl(self, clients: NetworkClients, stop: asyncio.Event) -> None:
        settings = self._settings
        backfill = Backfill(settings, self._database, self._index, clients)
        identities = IdentityRefresh(settings, self._database, self._index, clients)
        lookups = AccountLookups(
            settings, self._database, self._index, clients, on_resync=backfill.wake
        )

        def wake_identities() -> None:
            lookups.wake()
            identities.wake()

        pipeline: Pipeline | Router
        if settings.shards > 1:
            pipeline = await self._open_router(backfill.wake, wake_identities)
        else:
            pipeline = self._open_pipeline(backfill.wake, wake_identities)
        self.pipeline = pipeline
        watcher = asyncio.create_task(self._stop_waiting(stop))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._supervise(clients, pipeline, stop))
                group.create_task(backfill.run(stop))
                group.create_task(lookups.run(stop))
                group.create_task(identities.run(stop))
                if self._list_due is not None:
                    group.create_task(self._list(self._list_due, stop))
        except* _UsurpedError:
            log.warning("another_crawler_took_over")
        except* StoppedError:
            log.warning("stopped_without_database")
        finally:
            await pipeline.finish()
            watcher.cancel()
        if pipeline.failure is not None:
            raise pipeline.failure

    def _open_pipeline(
        self, wake_backfill: Callable[[], None], wake_identities: Callable[[], None]
    ) -> Pipeline:
        loop = asyncio.get_running_loop()
        pipeline = Pipeline(
            self._settings,
            self._database,
            self._index,
            Gate(self._settings, run=self._database.run),
            on_desynchronized=_on_loop(loop, wake_backfill),
            on_identities=_on_loop(loop, wake_identities),
        )
        pipeline.start()
        return pipeline

    async def _open_router(
        self, wake_backfill: Callable[[], None], wake_identities: Callable[[], None]
    ) -> Router:
        def wake(message: Wake) -> None:
            if message.repos:
                wake_backfill()
            if message.identities:
                wake_identities()
            if message.documents:
                self._on_written()

        assert self._start_shard is not None
        router = Router(
            self._settings.shards, self._start_shard, self._database, wake=wake
        )
        await router.open()
        return router

    async def _stop_waiting(self, stop: asyncio.Event) -> None:
        """Stop retrying work once the process stops."""
        await stop.wait()
        self._database.stop()

    async def _supervise(
        self, clients: NetworkClients, pipeline: Pipeline | Router, stop: asyncio.Event
    ) -> None:
        """Keep one reader for each host that should be streamed."""
        broken = pipeline.broken if isinstance(pipeline, Router) else stop
        try:
            while not stop.is_set():
                if pipeline.failure is not None:
                    raise pipeline.failure
                if isinstance(pipeline, Router) and broken.is_set():
                    await self._close_readers(list(self._readers))
                    await pipeline.revive()
                if self._usurped and isinstance(pipeline, Router):
                    # Our shards would block the other crawler.
                    raise _UsurpedError
                wanted: list[host_rows.Host] = []
                if await asyncio.to_thread(self._hold_lock):
                    wanted = await asyncio.to_thread(
                        self._database.run, self._find_streamed
                    )
                await self._match_readers(wanted, clients, pipeline)
                await wait_first(stop, broken, seconds=self._settings.host_rescan)
        finally:
            await self._close_readers(list(self._readers))

    async def _match_readers(
        self,
        wanted: list[host_rows.Host],
        clients: NetworkClients,
        pipeline: Pipeline | Router,
    ) -> None:
        ids = {host.id for host in wanted}
        ended = [host for host, task in self._readers.items() if task.done()]
        for host_id in ended:
            task = self._readers.pop(host_id)
            if not task.cancelled() and task.exception() is not None:
                # A bug in one reader; the next round opens it again.
                log.error("reader_failed", exc_info=task.exception())
        await self._close_readers([host for host in self._readers if host not in ids])
        for host in wanted:
            # A reader that has just ended may have written that its host must rest,
            # after `wanted` was read.
            if host.id not in self._readers and host.id not in ended:
                reader = StreamReader(
                    host,
                    clients.fetcher,
                    pipeline,
                    self._database,
                    self._settings,
                    times=self._times,
                )
                self._readers[host.id] = asyncio.create_task(reader.run())

    def _find_streamed(self, conn: Conn) -> list[host_rows.Host]:
        return host_rows.streamed_hosts(conn, most=self._settings.streams_at_once)

    async def _close_readers(self, ids: list[int]) -> None:
        tasks = [self._readers.pop(host) for host in ids]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _list(self, list_due: Callable[[], Any], stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await asyncio.to_thread(list_due)
            except psycopg.Error as error:
                log.warning("listing_failed", extra={"why": str(error)})
            await wait_first(stop, seconds=self._settings.host_rescan)


def _on_loop(
    loop: asyncio.AbstractEventLoop, work: Callable[[], None]
) -> Callable[[], None]:
    """Return `work` as a function that any thread may call."""

    def call() -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(work)

    return call
