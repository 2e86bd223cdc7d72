"""Refreshing DID documents and handles, as jobs that survive a crash."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from crawler.database import Database
from crawler.identities.accounts import Account
from crawler.identities.fair_slots import FairSlots
from crawler.identities.identity_jobs import IdentityJobs
from crawler.identities.lookups import LookedUp
from crawler.identities.network_clients import NetworkClients
from crawler.scope.admission import IDENTITY_JOB, Admission, Placement, place_repos
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from network.errors import NetworkError
from protocol.syntax.did import Did
from storage import jobs
from storage.hosts import host_relays
from storage.hosts.host_budget import count_accounts
from storage.postgres.pool import Conn
from storage.repos import identities, repo_rows

_AT_ONCE: Final = 128
# Slots of one host: those of servers that never answer are held for half a minute.
_PER_HOST: Final = 4
_MINUTE: Final = 60.0
# Refreshes are queued twice as fast as needed: some rounds are missed.
_AHEAD: Final = 2.0
# Jobs due for longer wait for servers that do not answer, and count no more.
_HELD_UP: Final = 600.0
# A handle is kept while its domain is unreachable, unless several checks failed over a
# day. A wrong answer counts at once.
_FAILURES_BEFORE_REMOVAL: Final = 3
_SECONDS_BEFORE_REMOVAL: Final = 86_400.0


class IdentityRefresh(IdentityJobs):
    """Refreshes documents and verifies handles of accounts."""

    kind = IDENTITY_JOB

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        index: IndexWriter,
        clients: NetworkClients,
    ) -> None:
        super().__init__(settings, database, index, clients)
        self._admission = Admission(settings)
        self._admitting = asyncio.Lock()

    def _make_slots(self) -> list[FairSlots]:
        return [FairSlots(_AT_ONCE, _PER_HOST)]

    async def queue_stale(self, least: int) -> int:
        """Queue accounts whose document or handle is stale; call it once a minute.

        Queues `least` or more, enough to refresh all accounts in time; none while as
        many are due already. Return how many.
        """
        age = self._settings.identity_age

        def queue(conn: Conn) -> int:
            share = count_accounts(conn) * _MINUTE / max(age, _MINUTE)
            limit = max(least, math.ceil(_AHEAD * share))
            waiting = jobs.count_due(conn, IDENTITY_JOB, most=limit, since=_HELD_UP)
            if waiting >= limit:
                return 0
            stale = identities.stale_accounts(
                conn, older_than=age, limit=limit, job=IDENTITY_JOB
            )
            jobs.put_jobs(conn, IDENTITY_JOB, stale)
            return len(stale)

        return await asyncio.to_thread(self._database.run, queue)

    async def _do(self, job: jobs.ClaimedJob) -> bool:
        did, wait = Did(job.key), self._refresh_in(job)
        # A mirror of the directory does, unless a change was reported.
        looked_up = await self._resolve(job, mirrored=True)
        if looked_up is None:
            return False
        if looked_up.failed:
            return True
        if looked_up.gone:
            await self._apply_gone(did)
            return True
        handle = None
        if looked_up.document is not None:
            await self._place(did, looked_up)
            try:
                handle = await self._resolver.verify_handle(
                    looked_up.document, refresh=True
                )
            except NetworkError as error:
                claimed = looked_up.document.handles[0]
                if not await asyncio.to_thread(self._give_up, did, claimed):
                    await self._retry(job, str(error))
                    return False
        await asyncio.to_thread(
            self._database.persist, lambda: self._index.set_handle(did, handle)
        )
        return await self._postpone(job, wait)

    def _give_up(self, did: Did, claimed: str) -> bool:
        """Count a failed check of the handle that an account claims; return True if
        there were too many. Remove a handle that the account no longer claims."""

        def note(conn: Conn) -> tuple[bool, str | None]:
            failed = identities.note_handle_failure(conn, claimed)
            long = (
                failed.failures >= _FAILURES_BEFORE_REMOVAL
                and failed.seconds >= _SECONDS_BEFORE_REMOVAL
            )
            return long, identities.held_handle(conn, did)

        long, held = self._database.run(note)
        if held is not None and held != claimed:
            self._database.persist(lambda: self._index.set_handle(did, None))
        return long

    async def _place(self, did: Did, looked_up: LookedUp) -> None:
        account = Account(did)
        account.set_document(looked_up.document, dev=self._settings.dev)
        if account.pds is None or account.pds_url is None:
            return
        place = Placement(did, account.pds, account.pds_url)

        def put(conn: Conn) -> None:
            if repo_rows.find_repos(conn, [did]):
                place_repos(conn, [place], relay=False)
            elif not repo_rows.has_ended(conn, did):
                self._admit(conn, account)

        async with self._admitting:
            await self._run(put)

    def _admit(self, conn: Conn, account: Account) -> None:
        """Admit a listed account that could not be resolved at the time."""
        if self._admission.scope.due:
            self._admission.scope.refresh(conn)
        if self._admission.in_scope(account.did):
            relay = host_relays.relay_is_read(conn)
            self._admission.admit(conn, [account], relay=relay)
