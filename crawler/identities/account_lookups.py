"""Lookups of accounts whose frames were dropped: new accounts, moves, rotated keys.

Each ends with the account admitted, or its repo queued to be fetched, if a host that
sent such frames turns out to be its host (ADR 0021).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg

from crawler.database import Database
from crawler.hosts.status_sweep import StatusSweep
from crawler.identities.accounts import Account
from crawler.identities.fair_slots import FairSlots
from crawler.identities.identity_jobs import IdentityJobs
from crawler.identities.network_clients import NetworkClients
from crawler.scope.admission import LOOKUP_JOB, Admission, Placement, place_repos
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from protocol.identity.did_document import DidDocument
from protocol.syntax.did import Did, is_plc_did
from storage import jobs
from storage.hosts import host_rows
from storage.repos import repo_rows
from storage.repos.account_status import DoubtfulAccount, asking_time
from storage.repos.scope_rows import ScopeKind, add_accounts, hold_scope
from storage.states import STATUS_ACTIVE


class AccountLookups(IdentityJobs):
    """Works off the lookups that the gate queued. `on_resync` is called when repos
    are to be fetched."""

    kind = LOOKUP_JOB

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        index: IndexWriter,
        clients: NetworkClients,
        *,
        on_resync: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(settings, database, index, clients)
        self._on_resync = on_resync
        self._admission = Admission(settings)
        self._admitting = asyncio.Lock()
        self._statuses = StatusSweep(settings, database, index, clients)

    def _make_slots(self) -> list[FairSlots]:
        limit = self._settings.lookups_at_once
        # The directory is one server; domains may be there to keep us waiting.
        return [
            FairSlots(limit, limit),
            FairSlots(limit, self._settings.lookups_per_host),
        ]

    def _slots_of(self, did: Did) -> FairSlots:
        return self._pools[0 if is_plc_did(did) else 1]

    async def _may_forget(self, job: jobs.ClaimedJob) -> bool:
        if is_plc_did(job.key):
            return await super()._may_forget(job)
        # Anyone can name domains that never answer.
        return not await self._is_known(job)

    async def _do(self, job: jobs.ClaimedJob) -> bool:
        wait = self._refresh_in(job)
        looked_up = await self._resolve(job)
        if looked_up is None:
            return False
        if looked_up.failed:
            return True
        if looked_up.gone:
            if await self._is_known(job):
                await self._apply_gone(Did(job.key))
            return True
        if looked_up.document is not None:
            await self._take(job, looked_up.document)
        return await self._postpone(job, wait)

    async def _take(self, job: jobs.ClaimedJob, document: DidDocument) -> None:
        account = Account(Did(job.key))
        account.set_document(document, dev=self._settings.dev)
        if account.pds is None or account.pds_url is None:
            return
        async with self._admitting:
            inactive = await self._run(lambda conn: self._place(conn, job, account))
        self._on_resync()
        if inactive is not None:
            # Frames that told of a change were dropped, perhaps.
            await self._statuses.ask(inactive)

    def _place(
        self, conn: psycopg.Connection[Any], job: jobs.ClaimedJob, account: Account
    ) -> DoubtfulAccount | None:
        """Admit an account, or queue its repo. Return it if it is held as inactive."""
        assert account.pds is not None
        assert account.pds_url is not None
        speakers = host_rows.find_speakers(conn, list(job.named_by), account.pds)
        known = repo_rows.find_repos(conn, [account.did]).get(account.did)
        if known is None:
            if speakers and not repo_rows.has_ended(conn, account.did):
                in_scope = any(job.named_by[host].in_scope for host in speakers)
                self._admit(conn, account, in_scope=in_scope)
            return None
        place = Placement(account.did, account.pds, account.pds_url)
        relay = host_rows.has_relays(conn)
        [host] = place_repos(conn, [place], relay=relay)
        if not speakers:
            return None
        newest = max(job.named_by[host].rev for host in speakers)
        if newest:
            repo_rows.note_newer(conn, account.did, newest)
        if known.status == STATUS_ACTIVE:
            return None
        return DoubtfulAccount(
            known.actor,
            account.did,
            host,
            account.pds_url,
            known.status,
            0,
            asking_time(conn),
        )

    def _admit(
        self, conn: psycopg.Connection[Any], account: Account, *, in_scope: bool
    ) -> None:
        scope = self._admission.scope
        if scope.due:
            scope.refresh(conn)
        collections = scope.scope.kind is ScopeKind.COLLECTION
        if in_scope and collections and not scope.includes(account.did):
            # It writes into the collections of the scope. The scope is locked before
            # hosts, as by commands that set it.
            hold_scope(conn, scope.scope)
            self._admission.admit(conn, [account], relay=host_rows.has_relays(conn))
            if account.admitted:
                add_accounts(conn, [account.did], scope=scope.scope)
        elif scope.includes(account.did):
            self._admission.admit(conn, [account], relay=host_rows.has_relays(conn))
