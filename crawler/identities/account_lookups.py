"""Lookups of accounts whose frames were dropped: new accounts, moves, rotated keys.

Each ends with the account admitted, or its repo queued to be fetched, if a host that
sent such frames turns out to be its host (ADR 0021).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from crawler.database import Database
from crawler.identities.accounts import Account
from crawler.identities.fair_slots import FairSlots
from crawler.identities.identity_jobs import IdentityJobs
from crawler.identities.network_clients import NetworkClients
from crawler.scope.admission import LOOKUP_JOB, Admission, Placement, place_repos
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from protocol.events.event import AccountEvent
from protocol.identity.did_document import DidDocument
from protocol.syntax.did import Did, is_plc_did
from storage import jobs
from storage.hosts import host_relays, host_rows
from storage.jobs import Naming
from storage.postgres.pool import Conn
from storage.repos import repo_rows
from storage.repos.scope_rows import ScopeKind, add_accounts, hold_scope
from storage.states import STATUS_ACTIVE


class AccountLookups(IdentityJobs):
    """Works off the lookups that the gate queued. `on_resync` is called when repos
    are to be fetched."""

    kind = LOOKUP_JOB
    # New accounts should not wait for long.
    pauses_per_claim = 1.0

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

    def _make_slots(self) -> list[FairSlots]:
        limit = self._settings.lookups_at_once
        # Unlike the directory, did:web domains may be slow on purpose.
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
            event = await self._run(lambda conn: self._place(conn, job, account))
        if event is not None:
            await asyncio.to_thread(
                self._database.persist, lambda: self._index.apply([event], {})
            )
            if event.active:
                await self._run(lambda conn: repo_rows.wake_repos(conn, [event.did]))
        self._on_resync()

    def _place(
        self, conn: Conn, job: jobs.ClaimedJob, account: Account
    ) -> AccountEvent | None:
        """Admit an account, or queue its repo; return the change of its status that its
        host sent."""
        assert account.pds is not None
        assert account.pds_url is not None
        speakers = host_rows.find_speakers(conn, list(job.named_by), account.pds)
        namings = [job.named_by[host] for host in speakers]
        latest = max(namings, key=lambda naming: naming.at, default=Naming())
        active = latest.status in ("", STATUS_ACTIVE)
        if not repo_rows.find_repos(conn, [account.did]):
            if namings and active and not repo_rows.has_ended(conn, account.did):
                self._admit(conn, account, in_scope=any(n.in_scope for n in namings))
            return None
        place = Placement(account.did, account.pds, account.pds_url)
        [host] = place_repos(conn, [place], relay=host_relays.has_relays(conn))
        if newest := max((naming.rev for naming in namings), default=""):
            repo_rows.note_newer(conn, account.did, newest)
        if not latest.status:
            return None
        return AccountEvent(
            account.did,
            active,
            None if active else latest.status,
            host=host,
            asked_at=datetime.fromtimestamp(latest.at, UTC),
        )

    def _admit(self, conn: Conn, account: Account, *, in_scope: bool) -> None:
        scope = self._admission.scope
        if scope.due:
            scope.refresh(conn)
        collections = scope.scope.kind is ScopeKind.COLLECTION
        if in_scope and collections and not scope.includes(account.did):
            # It writes into the collections of the scope. The scope is locked before
            # hosts, as by commands that set it.
            hold_scope(conn, scope.scope)
            self._admission.admit(conn, [account], relay=host_relays.has_relays(conn))
            if account.admitted:
                add_accounts(conn, [account.did], scope=scope.scope)
        elif scope.includes(account.did):
            self._admission.admit(conn, [account], relay=host_relays.has_relays(conn))
