"""Requests for the status of accounts not heard of for long.

#account events are sent once and may be missed (specs/account). Listings cover most
accounts; this sweep asks for the rest (com.atproto.sync.getRepoStatus).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from crawler.database import Database
from crawler.identities.network_clients import NetworkClients
from crawler.methods import GET_REPO_STATUS
from crawler.scope.admission import IDENTITY_JOB
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from network.errors import NetworkError, RateLimitedError, XrpcError
from network.xrpc.client import XrpcClient
from protocol.events.event import AccountEvent
from storage import jobs
from storage.hosts import host_rows
from storage.postgres.pool import Conn
from storage.repos import repo_rows
from storage.repos.account_status import (
    DoubtfulAccount,
    doubtful_accounts,
    note_statuses,
    note_unknown,
)
from storage.states import STATUS_ACTIVE, UPSTREAM_STATUSES

log = logging.getLogger(__name__)

REPO_NOT_FOUND: Final = "RepoNotFound"

_UNKNOWN_STATUS: Final = "inactive"
_HOSTS_AT_ONCE: Final = 16
_ANSWER_BYTES: Final = 16_384
# Requests to one host in a run. A host with more due accounts is compared in full,
# at a thousand accounts a request.
_PER_HOST: Final = 20
# Unknown twice, an hour apart, means that the host does not have the repo.
_SURE_AFTER: Final = 2


class StatusSweep:
    """One bounded batch of requests, host by host."""

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        index: IndexWriter,
        clients: NetworkClients,
    ) -> None:
        self._settings = settings
        self._database = database
        self._index = index
        self._fetcher = clients.fetcher
        self._counts: Counter[str] = Counter()

    async def run_batch(self, limit: int, *, seconds: float) -> dict[str, int]:
        """Ask for up to `limit` accounts, for `seconds` at most."""
        due: Sequence[DoubtfulAccount] = await self._do(
            lambda conn: doubtful_accounts(
                conn,
                older_than=self._settings.status_age,
                confirm_after=self._settings.status_confirm,
                limit=limit,
                per_host=_PER_HOST,
            )
        )
        by_host: dict[int, list[DoubtfulAccount]] = {}
        for account in due:
            by_host.setdefault(account.host, []).append(account)
        slots = asyncio.Semaphore(_HOSTS_AT_ONCE)

        async def ask(host: int, accounts: Sequence[DoubtfulAccount]) -> None:
            async with slots:
                await self._ask_host(host, accounts)

        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(ask(h, a) for h, a in by_host.items()))
        except TimeoutError:
            # The others are still due.
            self._counts["cut_short"] += 1
        return {"hosts": len(by_host), "asked": 0} | dict(self._counts)

    async def _ask_host(self, host: int, accounts: Sequence[DoubtfulAccount]) -> None:
        if len(accounts) >= _PER_HOST and await self._do(
            lambda conn: _list_instead(conn, host)
        ):
            self._counts["listings"] += 1
            return
        client = XrpcClient(self._fetcher, accounts[0].url)
        for account in accounts:
            try:
                answer = await client.query(
                    GET_REPO_STATUS, {"did": account.did}, max_bytes=_ANSWER_BYTES
                )
            except RateLimitedError as error:
                await self._do(partial(_hold_back, host, error.retry_after))
                return
            except XrpcError as error:
                self._counts["asked"] += 1
                if error.name != REPO_NOT_FOUND:
                    self._counts["failed"] += 1
                    return
                await self._take_unknown(account)
            except NetworkError as error:
                # Listings and streams keep track of the host itself.
                log.info("status_failed", extra={"did": account.did, "why": str(error)})
                self._counts["failed"] += 1
                return
            else:
                self._counts["asked"] += 1
                await self._take_status(account, answer)

    async def _take_status(self, account: DoubtfulAccount, answer: Any) -> None:
        status = read_status(answer, account.did)
        if status is None:
            self._counts["failed"] += 1
            return
        if status != account.status:
            await self._change(account, status)
        await self._do(lambda conn: note_statuses(conn, [account.actor], account.host))

    async def _take_unknown(self, account: DoubtfulAccount) -> None:
        """Count that the host does not know the repo. The second time it is hidden, not
        deleted: the host may have lost its accounts for a day."""
        sure = account.unknown + 1 >= _SURE_AFTER
        if sure and account.status == STATUS_ACTIVE:
            await self._change(account, _UNKNOWN_STATUS)

        def note(conn: Conn) -> None:
            note_unknown(conn, account.actor)
            jobs.put_jobs(conn, IDENTITY_JOB, [account.did])

        await self._do(note)
        self._counts["unknown"] += 1

    async def _change(self, account: DoubtfulAccount, status: str) -> None:
        active = status == STATUS_ACTIVE
        event = AccountEvent(
            account.did,
            active,
            None if active else status,
            host=account.host,
            asked_at=account.asked_at,
        )
        await asyncio.to_thread(
            self._database.persist, lambda: self._index.apply([event], {})
        )
        if active:
            await self._do(lambda conn: repo_rows.wake_repos(conn, [account.did]))
        self._counts["changed"] += 1

    async def _do(self, work: Any) -> Any:
        return await asyncio.to_thread(self._database.run, work)


def read_status(answer: Any, did: str) -> str | None:
    """Return the status to store for a getRepoStatus response; None if malformed."""
    if not isinstance(answer, dict) or answer.get("did") != did:
        return None
    active, status = answer.get("active"), answer.get("status")
    if type(active) is not bool:
        return None
    if active:
        return STATUS_ACTIVE
    if status in UPSTREAM_STATUSES and status != STATUS_ACTIVE:
        return str(status)
    return _UNKNOWN_STATUS


def _hold_back(host: int, seconds: float, conn: Conn) -> None:
    host_rows.hold_back(conn, host, seconds)


def _list_instead(conn: Conn, host: int) -> bool:
    """Have a host compared in full, unless that was done in the last day."""
    return bool(
        conn.execute(
            """
            UPDATE host SET listed_at = NULL, list_cursor = NULL, polled_at = NULL
            WHERE id = %s AND (state = 'relayed' OR listed_at IS NULL
                OR listed_at < now() - interval '1 day') AND (polled_at IS NULL
                OR polled_at < now() - interval '1 day')
            """,
            (host,),
        ).rowcount
    )
