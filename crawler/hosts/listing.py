"""Comparing a host's listRepos pages with our repos.

A listing tells the accounts of a host, their revs and statuses. It proves nothing: a
new account is admitted only if its DID document names the host, and a newer rev only
queues a fetch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from crawler.database import Database
from crawler.hosts.discovery import read_page
from crawler.hosts.host_name import HostName
from crawler.hosts.page_guard import PageGuard
from crawler.identities.accounts import Account
from crawler.identities.lookups import LookedUp, look_up
from crawler.scope.admission import IDENTITY_JOB, Admission
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from network.identity.resolver import IdentityResolver
from protocol.events.event import AccountEvent
from protocol.syntax.did import Did, is_did, is_plc_did
from protocol.syntax.tid import Tid, is_tid
from storage import jobs
from storage.hosts import host_rows
from storage.hosts.host_listing import save_list_cursor
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.repos import repo_rows
from storage.repos.account_status import asking_time, note_statuses
from storage.states import STATUS_ACTIVE, UPSTREAM_STATUSES

log = logging.getLogger(__name__)

_LOOKUPS: Final = 32
_UNKNOWN_STATUS: Final = "inactive"
# Statuses confirmed less than a day ago are not written again.
_FRESH: Final = 86_400.0
# Documents of accounts of other hosts that are refreshed for one listing.
_MOST_DOUBTED: Final = 20
# New accounts of one listing that are queued while the directory is away.
_MOST_UNANSWERED: Final = 10_000


@dataclass(slots=True)
class ListedHost:
    """The listing of one host under way.

    - asked_at: no later than its next page is requested
    - behind: repos that have a newer rev there
    - doubted: accounts of other hosts that it listed with news
    - unanswered: new accounts that could not be resolved
    """

    host: host_rows.Host
    began: datetime
    cursor: str | None
    guard: PageGuard
    asked_at: datetime = field(init=False)
    done: bool = False
    repos: int = 0
    admitted: int = 0
    behind: list[Did] = field(default_factory=list)
    doubted: int = 0
    unanswered: int = 0

    def __post_init__(self) -> None:
        self.asked_at = self.began


class Listing:
    """Compares pages. Blocking database work runs in threads."""

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        index: IndexWriter,
        resolver: IdentityResolver,
    ) -> None:
        self._settings = settings
        self._database = database
        self._index = index
        self._resolver = resolver
        self._admission = Admission(settings)
        self._admitting = asyncio.Lock()

    async def take_page(self, listed: ListedHost, body: bytes) -> str | None:
        """Compare one page; return the cursor of the next, None after the last.

        Raises NetworkError for a malformed page.
        """
        entries, following = read_page(body, "repos")
        found = _read_repos(entries)
        cursor = listed.guard.enter(entries, following)
        arrived = await asyncio.to_thread(self._database.run, asking_time)
        known = await asyncio.to_thread(self._compare, listed, found)
        listed.asked_at = arrived
        crashpoint(Crashpoint.LISTING_COMPARED)
        strangers = [
            repo.did for repo in found if repo.active and repo.did not in known
        ]
        await self._admit(listed, strangers)
        crashpoint(Crashpoint.LISTING_ADMITTED)
        listed.repos += len(found)
        listed.done = cursor is None and not listed.guard.exhausted
        await asyncio.to_thread(
            self._database.run,
            lambda conn: save_list_cursor(
                conn,
                listed.host.id,
                listed.began,
                cursor or following,
                done=listed.done,
            ),
        )
        crashpoint(Crashpoint.LISTING_SAVED)
        return cursor

    async def settle(self, behind: Sequence[Did], *, streamed: bool) -> int:
        """Queue the repos that are still behind after a moment; return how many.

        The commits of a streamed host may just be on their way.
        """
        if not behind:
            return 0
        if streamed:
            await asyncio.sleep(self._settings.listing_settle)
        queued: int = await asyncio.to_thread(
            self._database.run, lambda conn: repo_rows.mark_behind(conn, behind)
        )
        return queued

    def _compare(
        self, listed: ListedHost, found: Sequence[repo_rows.ListedRepo]
    ) -> dict[Did, repo_rows.KnownRepo]:
        host = listed.host.id

        def work(conn: Conn) -> tuple[dict[Did, repo_rows.KnownRepo], list[Did]]:
            if self._admission.scope.due:
                self._admission.scope.refresh(conn)
            known = repo_rows.find_repos(conn, [repo.did for repo in found])
            ours = [repo for repo in found if repo.did in known]
            _doubt_homes(conn, listed, ours, known)
            agreed = [
                known[repo.did].actor
                for repo in ours
                if _status(repo) == known[repo.did].status
            ]
            note_statuses(conn, agreed, host, fresh_for=_FRESH)
            return known, repo_rows.note_upstream(conn, host, ours)

        known, behind = self._database.run(work)
        listed.behind += behind
        changes = [
            AccountEvent(
                repo.did, repo.active, repo.status, host=host, asked_at=listed.asked_at
            )
            for repo in found
            if repo.did in known
            and known[repo.did].host == host
            and _status(repo) != known[repo.did].status
        ]
        if changes:
            self._database.persist(lambda: self._index.apply(changes, {}))
            back = [event.did for event in changes if event.active]
            self._database.run(lambda conn: repo_rows.wake_repos(conn, back))
        return known

    async def _admit(self, listed: ListedHost, dids: Sequence[Did]) -> None:
        name = HostName(listed.host.hostname)
        wanted = [did for did in dids if self._admission.in_scope(did)]
        # Small groups: a host over its daily budget costs no more lookups.
        for start in range(0, len(wanted), _LOOKUPS):
            if name in self._admission.refused_hosts:
                return
            group = wanted[start : start + _LOOKUPS]
            found = await asyncio.gather(
                *(look_up(self._resolver, did, refresh=False) for did in group)
            )
            await self._remember(listed, found)
            accounts = [Account(looked_up.did) for looked_up in found]
            for account, looked_up in zip(accounts, found, strict=True):
                account.set_document(looked_up.document, dev=self._settings.dev)
            owned = [account for account in accounts if account.pds == name]
            if not owned:
                continue
            async with self._admitting:
                await asyncio.to_thread(
                    self._database.run,
                    lambda conn, owned=owned: self._admission.admit(
                        conn, owned, relay=False
                    ),
                )
            listed.admitted += sum(account.admitted for account in owned)

    async def _remember(self, listed: ListedHost, found: Sequence[LookedUp]) -> None:
        """Queue lookups that failed because the directory is away."""
        room = _MOST_UNANSWERED - listed.unanswered
        missed = [
            looked_up.did
            for looked_up in found
            if looked_up.failed and is_plc_did(looked_up.did)
        ][:room]
        if missed:
            listed.unanswered += len(missed)
            await asyncio.to_thread(
                self._database.run,
                lambda conn: jobs.put_jobs(
                    conn, IDENTITY_JOB, missed, wait=self._settings.refresh_interval
                ),
            )


def _doubt_homes(
    conn: Conn,
    listed: ListedHost,
    found: Sequence[repo_rows.ListedRepo],
    known: Mapping[Did, repo_rows.KnownRepo],
) -> None:
    """Refresh the documents of some accounts that we know elsewhere: they may have
    moved to this host unnoticed."""
    news = [
        repo.did
        for repo in found
        if known[repo.did].host != listed.host.id
        and (
            _status(repo) != known[repo.did].status
            or (repo.active and repo.rev > (known[repo.did].rev or ""))
        )
    ]
    doubted = news[: _MOST_DOUBTED - listed.doubted]
    listed.doubted += len(doubted)
    jobs.put_jobs(conn, IDENTITY_JOB, doubted, doubt=True)


def _read_repos(entries: Sequence[dict[str, Any]]) -> list[repo_rows.ListedRepo]:
    """Return the well-formed entries, each DID once."""
    found: dict[Did, repo_rows.ListedRepo] = {}
    for entry in entries:
        did, rev = entry.get("did"), entry.get("rev")
        active, status = entry.get("active", True), entry.get("status")
        if type(did) is not str or not is_did(did):
            continue
        if type(rev) is not str or not is_tid(rev) or type(active) is not bool:
            continue
        text = status[:64] if type(status) is str else None
        found[Did(did)] = repo_rows.ListedRepo(Did(did), Tid(rev), active, text)
    return list(found.values())


def _status(repo: repo_rows.ListedRepo) -> str:
    """Return the status to store for the `active` and `status` of an entry."""
    if repo.active:
        return STATUS_ACTIVE
    if repo.status in UPSTREAM_STATUSES and repo.status != STATUS_ACTIVE:
        return repo.status
    return _UNKNOWN_STATUS
