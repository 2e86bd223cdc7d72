"""Fetches of repos: new ones, and those whose chain broke.

A repo is claimed by lease, streamed from its host into the verifying reader, and
written in groups of records, in constant memory. Only the host that the DID document
names is asked. Where only chosen collections are kept, only those are fetched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import psycopg

from crawler.backoff import full_jitter
from crawler.database import Database, StoppedError
from crawler.identities.accounts import Account
from crawler.identities.lookups import look_up
from crawler.identities.network_clients import NetworkClients
from crawler.live.waiting import wait_first
from crawler.methods import GET_REPO
from crawler.repos.fetch_slots import FetchSlots
from crawler.repos.repo_gatherer import RepoGatherer
from crawler.repos.repo_import import SMALL_BYTES, StreamedImport
from crawler.repos.sparse_hosts import SparseHosts
from crawler.scope.admission import Placement, place_repos
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from indexer.repos.repo_batch import FetchedRepo
from network.errors import (
    BadResponseError,
    NetworkError,
    RateLimitedError,
    TooLargeError,
    XrpcError,
)
from network.xrpc.client import XrpcClient
from protocol.errors import DesynchronizedError, ProtocolError
from protocol.events.event import AccountEvent
from protocol.limits import MAX_REPO_BYTES
from protocol.repo.repo_diff import read_diff
from storage.hosts import host_rows
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.repos import repo_rows
from storage.repos.repo_rows import ClaimedRepo
from storage.repos.selections import Selection, wanted_selection

log = logging.getLogger(__name__)

# Errors of com.atproto.sync.getRepo and their account statuses. A repo that is not
# found is only hidden: a host may have a bad moment.
_NOT_FOUND: Final = "RepoNotFound"
_STATUS_OF_ERROR: Final = {
    "RepoTakendown": "takendown",
    "RepoSuspended": "suspended",
    "RepoDeactivated": "deactivated",
    _NOT_FOUND: "deactivated",
}

_CHUNK_BYTES: Final = 256 * 1024
_RETRY_BASE: Final = 1.0
_RETRY_CAP: Final = 3_600.0


class _FetchError(Exception):
    """The repo cannot be fetched now. `lasting`: not before something changes."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


@dataclass(slots=True)
class BackfillReport:
    """Result of a run. `updated` repos were fetched as diffs, `sparse` ones by their
    chosen collections."""

    fetched: int = 0
    updated: int = 0
    sparse: int = 0
    failed: int = 0
    records: int = 0
    gone: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class Backfill:
    """Claims and fetches repos, some at a time, few of each host."""

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        index: IndexWriter,
        clients: NetworkClients,
    ) -> None:
        self.report = BackfillReport()
        self._settings = settings
        self._database = database
        self._index = index
        self._clients = clients
        self._places = FetchSlots(
            settings.backfills_at_once,
            settings.backfills_per_host,
            settings.backfill_patience,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._threads = ThreadPoolExecutor(
            settings.backfills_at_once, thread_name_prefix="backfill"
        )
        # Its own thread: those above may all wait for hosts.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="backfill-write")
        self._gatherer = RepoGatherer(index, self._writer)
        self._sparse = SparseHosts(settings.sparse_records)

    def wake(self) -> None:
        """Look for repos now. Call on the event loop."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Fetch due repos until `stop`; fetches under way are given up then."""
        try:
            while not stop.is_set():
                self._wake.clear()
                if await self._claim(self._settings.backfills_at_once) == 0:
                    await wait_first(
                        self._wake, stop, seconds=self._settings.backfill_idle
                    )
        except StoppedError:
            return
        finally:
            await self._close()

    async def run_batch(self, limit: int, *, seconds: float) -> BackfillReport:
        """Fetch up to `limit` repos that are due now; begin none after `seconds`."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        left = limit
        try:
            while left > 0 and clock() < end:
                self._wake.clear()
                # Running fetches may keep others from being claimed.
                running = bool(self._tasks)
                claimed = await self._claim(left)
                left -= claimed
                if not claimed and not running:
                    break
                await wait_first(self._wake, seconds=self._settings.backfill_idle)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            await self._close()
        return self.report

    async def _close(self) -> None:
        await self._gatherer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._writer.shutdown)

    async def _claim(self, most: int) -> int:
        settings = self._settings
        free = min(most, self._places.free())
        waiting = len(self._tasks) > 32 * settings.backfills_at_once
        if free == 0 or waiting or self._gatherer.full:
            return 0
        busy = self._places.busy_hosts

        def claim(conn: Conn) -> tuple[list[ClaimedRepo], Selection | None]:
            claimed = repo_rows.claim_repos(
                conn,
                limit=free,
                lease_s=settings.backfill_lease,
                per_host=settings.backfills_per_host,
                skip_hosts=busy,
            )
            return claimed, wanted_selection(conn) if claimed else None

        claimed, wanted = await asyncio.to_thread(self._database.run, claim)
        if not claimed:
            await asyncio.to_thread(
                self._database.run,
                lambda conn: repo_rows.rest_gone(conn, wait=settings.backfill_daily),
            )
        if claimed:
            crashpoint(Crashpoint.RESYNC_CLAIMED)
        for repo in claimed:
            self._places.take(repo.actor, repo.host)
            task = asyncio.create_task(self._handle(repo, wanted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(claimed)

    async def _handle(self, repo: ClaimedRepo, wanted: Selection | None) -> None:
        try:
            await self._fetch(repo, wanted)
        except RateLimitedError as error:
            await self._postpone(repo, error)
        except XrpcError as error:
            await self._take_refusal(repo, error)
        except _FetchError as error:
            await self._give_back(repo, str(error), lasting=error.lasting)
        except (ProtocolError, DesynchronizedError) as error:
            await self._give_back(
                repo, f"{type(error).__name__}: {error}", lasting=True
            )
        except (NetworkError, psycopg.Error) as error:
            await self._give_back(
                repo, f"{type(error).__name__}: {error}", lasting=False
            )
        except asyncio.CancelledError:
            # Stopping: the repo is free at once, before its lease ends.
            self._database.try_once(
                lambda conn: repo_rows.give_back(
                    conn, repo.actor, "the crawler stopped", wait=0.0, failed=False
                )
            )
            raise
        except Exception as error:
            # A bug. Left in its lease the repo would be fetched again and again.
            log.exception("fetch_failed", extra={"did": repo.did})
            await self._give_back(
                repo, f"{type(error).__name__}: {error}", lasting=True
            )
        else:
            crashpoint(Crashpoint.RESYNC_DONE)
            self.report.fetched += 1
        finally:
            self._release(repo)

    def _release(self, repo: ClaimedRepo) -> None:
        """Free the slot of the repo's host."""
        if self._places.leave(repo.actor):
            self._wake.set()

    async def _fetch(self, repo: ClaimedRepo, wanted: Selection | None) -> None:
        account, host = await self._identify(repo)
        assert account.pds_url is not None
        assert account.key is not None
        client = XrpcClient(self._clients.fetcher, account.pds_url)
        if wanted is not None:
            chosen = await self._sparse.fetch(
                client, repo.did, account.key, host, wanted
            )
            if chosen is not None:
                await self._import(repo, chosen)
                self.report.sparse += 1
                self.report.records += len(chosen.records)
                return
        elif repo.tries == 0 and await self._bring_forward(repo, client, account, host):
            return
        loop = asyncio.get_running_loop()
        job = StreamedImport(
            self._index, repo.did, host, account.key, wanted, spill=repo.tries > 0
        )
        renew_at = loop.time() + self._settings.backfill_lease / 3
        async with AsyncExitStack() as stack:
            stack.push_async_callback(loop.run_in_executor, self._threads, job.close)
            body = await stack.enter_async_context(
                client.download(GET_REPO, {"did": repo.did}, max_bytes=MAX_REPO_BYTES)
            )
            gathered = bytearray()
            async for chunk in body:
                if self._places.note(repo.actor, len(chunk)):
                    raise _FetchError("too slow while others wait", lasting=False)
                gathered += chunk
                if len(gathered) >= _CHUNK_BYTES:
                    piece, gathered = bytes(gathered), bytearray()
                    await loop.run_in_executor(self._threads, job.feed, piece)
                    if loop.time() >= renew_at:
                        await self._renew(repo)
                        renew_at = loop.time() + self._settings.backfill_lease / 3
            crashpoint(Crashpoint.RESYNC_FETCHING)
            small = await loop.run_in_executor(
                self._threads, job.finish, bytes(gathered)
            )
        if small is not None:
            await self._import(repo, small)
        self.report.records += job.records

    async def _import(self, repo: ClaimedRepo, fetched: FetchedRepo) -> None:
        """Import a repo that is in memory."""
        size = sum(len(record.value) for record in fetched.records)
        if size <= SMALL_BYTES:
            # Others may be fetched while this one waits for its batch.
            self._release(repo)
        await self._gatherer.put(fetched, size)
        self._wake.set()

    async def _bring_forward(
        self, repo: ClaimedRepo, client: XrpcClient, account: Account, host: int
    ) -> bool:
        """Fetch the diff since our revision, at the first try only. Return False if the
        whole repo must be fetched."""
        since, key = repo.rev, account.key
        if since is None or key is None or repo.selection is not None:
            return False
        try:
            data = await client.query_bytes(
                GET_REPO,
                {"did": repo.did, "since": since},
                max_bytes=self._settings.backfill_diff_bytes,
            )
        except XrpcError as error:
            if error.name in _STATUS_OF_ERROR:
                raise
            return False
        except (TooLargeError, BadResponseError):
            return False

        def apply() -> bool:
            try:
                diff = read_diff(data, repo.did, key, time.time_ns() // 1_000)
            except ProtocolError:
                return False
            return self._index.update_repo(repo.did, host, since, diff)

        if not await asyncio.get_running_loop().run_in_executor(self._threads, apply):
            return False
        self.report.updated += 1
        return True

    async def _identify(self, repo: ClaimedRepo) -> tuple[Account, int]:
        """Return key and host; a repo that moved belongs to its new host then."""
        answer = await look_up(self._clients.resolver, repo.did, refresh=repo.tries > 0)
        if answer.document is None:
            raise _FetchError("no DID document", lasting=not answer.failed)
        account = Account(repo.did)
        account.set_document(answer.document, dev=self._settings.dev)
        if account.pds is None or account.pds_url is None:
            raise _FetchError("the DID document names no host", lasting=True)
        if account.key is None:
            raise _FetchError("the DID document names no signing key", lasting=True)
        place = Placement(repo.did, account.pds, account.pds_url)
        [host] = await asyncio.to_thread(
            self._database.run, lambda conn: place_repos(conn, [place], relay=True)
        )
        return account, host

    async def _renew(self, repo: ClaimedRepo) -> None:
        await asyncio.to_thread(
            self._database.run,
            lambda conn: repo_rows.renew_lease(
                conn, repo.actor, self._settings.backfill_lease
            ),
        )

    async def _postpone(self, repo: ClaimedRepo, error: RateLimitedError) -> None:
        """Put the repo back until the host's rate limit, or ours, is over."""

        def work(conn: Conn) -> None:
            host_rows.hold_back(conn, repo.host, error.retry_after)
            repo_rows.give_back(
                conn, repo.actor, str(error), wait=error.retry_after, failed=False
            )

        await asyncio.to_thread(self._database.run, work)

    async def _take_refusal(self, repo: ClaimedRepo, error: XrpcError) -> None:
        """Store the host's statement that the repo is not available. It leaves the
        queue until the host says otherwise."""
        status = _STATUS_OF_ERROR.get(error.name)
        if status is not None and (error.name != _NOT_FOUND or repo.rev is not None):
            self.report.gone += 1
            event = AccountEvent(
                repo.did, False, status, host=repo.host, asked_at=repo.claimed_at
            )
            await asyncio.to_thread(
                self._database.persist, lambda: self._index.apply([event], {})
            )
        # The host may not know a new account yet.
        permanent = status is not None and (error.name != _NOT_FOUND or repo.tries > 1)
        await self._give_back(repo, str(error), lasting=True, permanent=permanent)

    async def _give_back(
        self, repo: ClaimedRepo, why: str, *, lasting: bool, permanent: bool = False
    ) -> None:
        """Put the repo back into the queue, with backoff; daily after too many
        failures, or for reasons that time does not fix."""
        tries = repo.tries + 1
        wait = full_jitter(tries, base=_RETRY_BASE, cap=_RETRY_CAP)
        if permanent or (lasting and tries >= self._settings.backfill_tries):
            wait = self._settings.backfill_daily
        self.report.failed += 1
        self.report.errors[why.partition(":")[0][:80]] += 1
        log.info("backfill_failed", extra={"did": repo.did, "tries": tries, "why": why})
        await asyncio.to_thread(
            self._database.run,
            lambda conn: repo_rows.give_back(conn, repo.actor, why, wait=wait),
        )
