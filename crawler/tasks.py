"""The scheduled work of a crawler: bounded batches that may run twice or not at all.

Each function claims what it does by a lease in Postgres, so a doubled message finds
nothing to do, and what a killed worker had claimed is free again soon. Each opens its
own event loop and may be called from any thread, again and again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg

from crawler.backfill import Backfill
from crawler.database import Database, Pool
from crawler.discovery import add_configured, list_hosts
from crawler.identity_refresh import IdentityRefresh
from crawler.listing import ListedHost, Listing
from crawler.listing_spider import ListingFailure, crawl_listings
from crawler.outside import OpenOutside, Outside
from crawler.page_guard import PageGuard
from crawler.settings import CrawlSettings
from crawler.sink import Sink
from network.errors import NetworkError, XrpcError
from storage import hosts, leases

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[Outside], Coroutine[Any, Any, T]]

_LEASE: Final = 180.0
_TRIES: Final = 5
_SECONDS: Final = 60.0
_PAGES_A_RUN: Final = 200
# A polled host with this many changed repos at once is worth a stream.
_BUSY: Final = 20
_RETRY_LISTING: Final = 300.0


@dataclass(frozen=True, slots=True)
class CrawlTasks:
    """The tasks and what they work with. `pds` and `relays` are the operator's."""

    settings: CrawlSettings
    pool: Pool
    sink: Sink
    open_outside: OpenOutside
    pds: Sequence[str] = ()
    relays: Sequence[str] = ()

    def discover_hosts(self) -> dict[str, int]:
        """Make the configured hosts known, and those that the relays forward."""
        database = self._database()
        database.run(
            lambda conn: add_configured(conn, self.pds, self.relays, self.settings)
        )
        with self._lease(database, "discover_hosts") as held:
            if not held:
                return {"skipped": 1}
            return _run(self.open_outside, lambda out: self._discover(out, database))

    def list_repos(self, limit: int = 50) -> dict[str, int]:
        """Compare the listings of up to `limit` hosts that are due."""
        states = (hosts.HOST_NEW, hosts.HOST_STREAMING, hosts.HOST_RECHECK)
        return self._list(limit, states, self.settings.listing_interval, streamed=True)

    def poll_quiet_hosts(self, limit: int = 50) -> dict[str, int]:
        """Close the streams of quiet hosts, compare the listings of polled ones, and
        stream again those that became busy."""
        database = self._database()

        def rest(conn: psycopg.Connection[Any]) -> int:
            quiet = hosts.quiet_hosts(
                conn, quiet_s=self.settings.quiet_after, limit=limit
            )
            for host in quiet:
                hosts.set_state(conn, host, hosts.HOST_POLLING)
            return len(quiet)

        rested = database.run(rest)
        polled = self._list(
            limit, (hosts.HOST_POLLING,), self.settings.poll_interval, streamed=False
        )
        return polled | {"rested": rested}

    def hand_out_backfills(self, limit: int = 200) -> dict[str, int]:
        """Fetch up to `limit` repos that are due."""

        async def fetch(outside: Outside) -> dict[str, int]:
            backfill = Backfill(self.settings, self._database(), self.sink, outside)
            report = await backfill.run_batch(limit, seconds=_SECONDS)
            return {
                "fetched": report.fetched,
                "failed": report.failed,
                "records": report.records,
            }

        return _run(self.open_outside, fetch)

    def refresh_identities(self, limit: int = 200) -> dict[str, int]:
        """Read up to `limit` DID documents anew and check their handles."""

        async def refresh(outside: Outside) -> dict[str, int]:
            worker = IdentityRefresh(
                self.settings, self._database(), self.sink, outside
            )
            queued = await worker.queue_stale(limit)
            return {"queued": queued, "done": await worker.run_batch(limit)}

        return _run(self.open_outside, refresh)

    def _database(self) -> Database:
        return Database(self.pool, most_tries=_TRIES)

    async def _discover(self, outside: Outside, database: Database) -> dict[str, int]:
        new, failed = 0, 0
        for text in self.relays:
            try:
                found = await list_hosts(outside.fetcher, text, self.settings)
            except (NetworkError, XrpcError) as error:
                log.warning("list_hosts_failed", extra={"host": text, "why": error})
                failed += 1
                continue

            def put(conn: psycopg.Connection[Any], found: Any = found) -> int:
                return sum(
                    hosts.put_host(
                        conn,
                        address.name,
                        address.url,
                        source=hosts.SOURCE_RELAY,
                        state=hosts.HOST_RELAYED,
                    )[1]
                    for address in found
                )

            new += await asyncio.to_thread(database.run, put)
        return {"new": new, "failed": failed}

    def _list(
        self, limit: int, states: Sequence[str], older_than: float, *, streamed: bool
    ) -> dict[str, int]:
        database = self._database()
        holder = uuid.uuid4().hex

        def claim(conn: psycopg.Connection[Any]) -> list[ListedHost]:
            due = hosts.hosts_to_list(
                conn, limit=limit, older_than=older_than, states=states
            )
            return [
                ListedHost(
                    host,
                    hosts.begin_listing(conn, host.id),
                    cursor,
                    PageGuard(_PAGES_A_RUN),
                )
                for host, cursor in due
                if leases.take_lease(conn, _listing_lease(host.id), holder, _LEASE)
            ]

        targets = database.run(claim)
        if not targets:
            return {"hosts": 0}
        try:
            return _run(
                self.open_outside,
                lambda out: self._crawl(out, database, targets, streamed=streamed),
            )
        finally:

            def release(conn: psycopg.Connection[Any]) -> None:
                for target in targets:
                    leases.drop_lease(conn, _listing_lease(target.host.id), holder)

            database.run(release)

    async def _crawl(
        self,
        outside: Outside,
        database: Database,
        targets: list[ListedHost],
        *,
        streamed: bool,
    ) -> dict[str, int]:
        listing = Listing(self.settings, database, self.sink, outside.resolver)
        failures = await crawl_listings(
            outside.fetcher, listing, targets, crawl_seconds=_SECONDS
        )
        behind = [did for target in targets for did in target.behind]
        queued = await listing.settle(behind, streamed=streamed)
        await asyncio.to_thread(
            database.run, lambda conn: _note_results(conn, targets, failures)
        )
        return {
            "hosts": len(targets),
            "done": sum(target.done for target in targets),
            "failed": len(failures),
            "repos": sum(target.repos for target in targets),
            "admitted": sum(target.admitted for target in targets),
            "behind": queued,
        }

    @contextmanager
    def _lease(self, database: Database, name: str) -> Any:
        holder = uuid.uuid4().hex
        held = database.run(lambda conn: leases.take_lease(conn, name, holder, _LEASE))
        try:
            yield held
        finally:
            database.run(lambda conn: leases.drop_lease(conn, name, holder))


def _note_results(
    conn: psycopg.Connection[Any],
    targets: Sequence[ListedHost],
    failures: Sequence[ListingFailure],
) -> None:
    for failure in failures:
        if failure.retry_after is not None:
            hosts.hold_back(conn, failure.host.id, failure.retry_after)
        else:
            hosts.note_failure(
                conn, failure.host.id, failure.error, wait=_RETRY_LISTING
            )
    for target in targets:
        if not target.done:
            continue
        if target.host.state == hosts.HOST_RECHECK or (
            target.host.state == hosts.HOST_POLLING and len(target.behind) >= _BUSY
        ):
            hosts.set_state(conn, target.host.id, hosts.HOST_STREAMING)


def _listing_lease(host: int) -> str:
    return f"list:{host}"


def _run(open_outside: OpenOutside, work: Work[T]) -> T:
    """Run `work` on an event loop of its own, whatever thread this is."""

    async def run() -> T:
        async with open_outside() as outside:
            return await work(outside)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run())
    results: list[T] = []
    failures: list[BaseException] = []

    def in_thread() -> None:
        try:
            results.append(asyncio.run(run()))
        except BaseException as error:  # handed to the thread that waits below
            failures.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
