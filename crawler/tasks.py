"""Scheduled tasks of the crawler: bounded batches that may run twice or not at all.

Each task claims its work by leases in Postgres: a repeated task finds nothing to do,
and the work of a killed worker is free again soon. Each opens its own event loop and
may be called from any thread.
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

from crawler.database import Database
from crawler.hosts.balance import balance_hosts, measure_totals
from crawler.hosts.discovery import add_configured, list_hosts, take_over_plc_hosts
from crawler.hosts.listing import ListedHost, Listing
from crawler.hosts.listing_results import note_results
from crawler.hosts.listing_spider import crawl_listings
from crawler.hosts.page_guard import PageGuard
from crawler.hosts.status_sweep import StatusSweep
from crawler.identities.identity_refresh import IdentityRefresh
from crawler.identities.network_clients import NetworkClients, OpenClients
from crawler.repos.backfill import Backfill
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from network.errors import NetworkError, XrpcError
from storage.hosts import host_rows
from storage.hosts.host_listing import begin_listing, listings_due, polls_due
from storage.postgres import leases
from storage.postgres.pool import Conn, Pool

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[NetworkClients], Coroutine[Any, Any, T]]

_LEASE: Final = 180.0
_TRIES: Final = 5
_SECONDS: Final = 60.0
# A round ends with its last listing; long listings continue in the next round.
_LISTING_SECONDS: Final = 10.0
# The next round of identities begins after a minute.
_REFRESH_SECONDS: Final = 45.0
_PAGES_A_RUN: Final = 200
_PLC_HOSTS_A_RUN: Final = 500


@dataclass(frozen=True, slots=True)
class CrawlTasks:
    """The scheduled tasks. `pds` and `relays` are the configured hosts."""

    settings: CrawlSettings
    pool: Pool
    index: IndexWriter
    open_clients: OpenClients
    pds: Sequence[str] = ()
    relays: Sequence[str] = ()

    def discover_hosts(self) -> dict[str, int]:
        """Add the configured hosts, and those that the relays list."""
        database = self._database()
        database.run(
            lambda conn: add_configured(conn, self.pds, self.relays, self.settings)
        )
        with self._lease(database, "discover_hosts") as held:
            if not held:
                return {"skipped": 1}
            read, new = database.run(
                lambda conn: take_over_plc_hosts(
                    conn, self.settings, limit=_PLC_HOSTS_A_RUN
                )
            )
            found = _run(self.open_clients, lambda out: self._discover(out, database))
            return found | {"plc": read, "new": found["new"] + new}

    def list_repos(self, limit: int = 50) -> dict[str, int]:
        """Compare the listings of up to `limit` hosts that are due."""
        interval = self.settings.listing_interval
        return self._list(
            lambda conn: listings_due(conn, limit=limit, older_than=interval),
            streamed=True,
        )

    def balance_hosts(self) -> dict[str, int]:
        """Measure the rates of hosts, and move hosts between stream and poll."""
        database = self._database()
        with self._lease(database, "balance_hosts") as held:
            if not held:
                return {"skipped": 1}
            database.run(lambda conn: measure_totals(conn, self.settings))
            return database.run(lambda conn: balance_hosts(conn, self.settings))

    def poll_quiet_hosts(self, limit: int = 400) -> dict[str, int]:
        """Compare the listings of up to `limit` polled hosts that are due."""
        every = self.settings.poll_interval
        return self._list(
            lambda conn: polls_due(conn, limit=limit, every=every), streamed=False
        )

    def sweep_statuses(self, limit: int = 300) -> dict[str, int]:
        """Ask for the status of up to `limit` accounts not heard of for long."""
        database = self._database()

        async def sweep(clients: NetworkClients) -> dict[str, int]:
            work = StatusSweep(self.settings, database, self.index, clients)
            return await work.run_batch(limit, seconds=_SECONDS)

        with self._lease(database, "sweep_statuses") as held:
            return _run(self.open_clients, sweep) if held else {"skipped": 1}

    def hand_out_backfills(self, limit: int = 200) -> dict[str, int]:
        """Fetch up to `limit` repos that are due."""

        async def fetch(clients: NetworkClients) -> dict[str, int]:
            backfill = Backfill(self.settings, self._database(), self.index, clients)
            report = await backfill.run_batch(limit, seconds=_SECONDS)
            return {
                "fetched": report.fetched,
                "sparse": report.sparse,
                "failed": report.failed,
                "records": report.records,
            }

        return _run(self.open_clients, fetch)

    def refresh_identities(self, limit: int = 200) -> dict[str, int]:
        """Queue `limit` or more stale identities, and refresh what is due for most of a
        minute."""

        async def refresh(clients: NetworkClients) -> dict[str, int]:
            worker = IdentityRefresh(
                self.settings, self._database(), self.index, clients
            )
            queued = await worker.queue_stale(limit)
            done = await worker.run_once(seconds=_REFRESH_SECONDS)
            return {"queued": queued, "done": done}

        return _run(self.open_clients, refresh)

    def _database(self) -> Database:
        return Database(self.pool, most_tries=_TRIES)

    async def _discover(
        self, clients: NetworkClients, database: Database
    ) -> dict[str, int]:
        new, failed = 0, 0
        for text in self.relays:
            try:
                found = await list_hosts(clients.fetcher, text, self.settings)
            except (NetworkError, XrpcError) as error:
                log.warning("list_hosts_failed", extra={"host": text, "why": error})
                failed += 1
                continue

            def put(conn: Conn, found: Any = found) -> int:
                return sum(
                    host_rows.put_host(
                        conn,
                        address.name,
                        address.url,
                        source=host_rows.SOURCE_RELAY,
                        state=host_rows.HOST_RELAYED,
                    )[1]
                    for address in found
                )

            new += await asyncio.to_thread(database.run, put)
        return {"new": new, "failed": failed}

    def _list(
        self,
        find_due: Callable[[Conn], list[tuple[host_rows.Host, str | None]]],
        *,
        streamed: bool,
    ) -> dict[str, int]:
        database = self._database()
        holder = uuid.uuid4().hex

        def claim(conn: Conn) -> list[ListedHost]:
            # All processes lock hosts in the order of their ids.
            due = sorted(find_due(conn), key=lambda item: item[0].id)
            return [
                ListedHost(
                    host, begin_listing(conn, host.id), cursor, PageGuard(_PAGES_A_RUN)
                )
                for host, cursor in due
                if leases.take_lease(conn, _listing_lease(host.id), holder, _LEASE)
            ]

        targets = database.run(claim)
        if not targets:
            return {"hosts": 0}
        try:
            return _run(
                self.open_clients,
                lambda out: self._crawl(out, database, targets, streamed=streamed),
            )
        finally:

            def release(conn: Conn) -> None:
                for target in targets:
                    leases.drop_lease(conn, _listing_lease(target.host.id), holder)

            database.run(release)

    async def _crawl(
        self,
        clients: NetworkClients,
        database: Database,
        targets: list[ListedHost],
        *,
        streamed: bool,
    ) -> dict[str, int]:
        listing = Listing(self.settings, database, self.index, clients.resolver)
        failures = await crawl_listings(
            clients.fetcher,
            listing,
            targets,
            hosts_at_once=self.settings.polls_at_once,
            crawl_seconds=_LISTING_SECONDS if streamed else _SECONDS,
        )
        behind = [did for target in targets for did in target.behind]
        queued = await listing.settle(behind, streamed=streamed)
        await asyncio.to_thread(
            database.run,
            lambda conn: note_results(conn, targets, failures, self.settings),
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


def _listing_lease(host: int) -> str:
    return f"list:{host}"


def _run(open_clients: OpenClients, work: Work[T]) -> T:
    """Run `work` on an event loop of its own, in any thread."""

    async def run() -> T:
        async with open_clients() as clients:
            return await work(clients)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run())
    results: list[T] = []
    failures: list[BaseException] = []

    def in_thread() -> None:
        try:
            results.append(asyncio.run(run()))
        except BaseException as error:  # raised by the waiting thread below
            failures.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
