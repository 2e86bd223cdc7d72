"""Accounts with records of the scope's collections (listReposByCollection).

Relays are asked, or all hosts where there is no relay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from crawler.database import Database
from crawler.hosts.discovery import read_page
from crawler.hosts.page_guard import PageGuard
from crawler.identities.network_clients import NetworkClients
from crawler.methods import LIST_REPOS_BY_COLLECTION
from crawler.settings import CrawlSettings
from network.errors import BadResponseError, NetworkError, RateLimitedError, XrpcError
from network.xrpc.client import XrpcClient
from protocol.syntax.did import is_did
from storage.hosts import host_rows
from storage.hosts.host_budget import accounts_allowed
from storage.postgres.pool import Conn
from storage.repos.scope_rows import Scope, add_accounts

log = logging.getLogger(__name__)

_LOOK: Final = 30.0
"""Seconds until a new or returning host is asked."""
_AGAIN: Final = 86_400.0
_RETRY: Final = 300.0
_LONGEST_REST: Final = 600.0
_UNTRUSTED_S: Final = 300.0
_AT_ONCE: Final = 16
_PAGE: Final = 1_000
_PAGES: Final = 100_000
_PAGE_BYTES: Final = 4_000_000
_LEFT_ALONE: Final = (
    host_rows.HOST_BANNED,
    host_rows.HOST_OFFLINE,
    host_rows.HOST_THROTTLED,
)


class CollectionMembers:
    """Adds the members that hosts list, in the background.

    Call `keep_on` regularly, and `close` at the end: a relay's list may take hours.
    """

    def __init__(
        self, settings: CrawlSettings, database: Database, clients: NetworkClients
    ) -> None:
        self._settings = settings
        self._database = database
        self._fetcher = clients.fetcher
        self._task: asyncio.Task[None] | None = None
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._look_at = 0.0
        self._due: dict[int, float] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def keep_on(self, scope: Scope) -> None:
        """Ask the hosts that are due."""
        now = asyncio.get_running_loop().time()
        if now < self._look_at or (self._task is not None and not self._task.done()):
            return
        self._look_at = now + _LOOK
        self._task = asyncio.create_task(self._ask_hosts(scope))

    async def close(self) -> None:
        """Cancel what is under way, and forget the asked hosts."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        self._task, self._asking = None, {}
        self._look_at, self._due = 0.0, {}

    async def _ask_hosts(self, scope: Scope) -> None:
        try:
            found = await asyncio.to_thread(self._database.run, host_rows.load_hosts)
        except psycopg.Error as error:
            log.warning("holders_not_searched", extra={"why": str(error)})
            return
        known = found.values()
        now = asyncio.get_running_loop().time()
        self._asking = {n: task for n, task in self._asking.items() if not task.done()}
        for host in [host for host in known if host.relay] or known:
            if (
                host.id not in self._asking
                and host.state not in _LEFT_ALONE
                and self._due.get(host.id, 0.0) <= now
            ):
                task = asyncio.create_task(self._ask(host, scope))
                self._asking[host.id] = task

    async def _ask(self, host: host_rows.Host, scope: Scope) -> None:
        """Ask one host, and note when it is due again."""
        wait = _AGAIN
        async with self._slots:
            chosen = host.trusted or host.relay
            try:
                async with asyncio.timeout(None if chosen else _UNTRUSTED_S):
                    await self._read_lists(host, scope, bounded=not chosen)
            except (NetworkError, XrpcError, TimeoutError, psycopg.Error) as error:
                # Without a list, accounts join as they write.
                lasting = (BadResponseError, XrpcError, TimeoutError)
                wait = _AGAIN if isinstance(error, lasting) else _RETRY
                log.info(
                    "collection_not_listed",
                    extra={"host": host.hostname, "why": repr(error)},
                )
        self._due[host.id] = asyncio.get_running_loop().time() + wait

    async def _read_lists(
        self, host: host_rows.Host, scope: Scope, *, bounded: bool
    ) -> None:
        """Add the accounts that a host lists; of an untrusted host as many as it may
        add in a day."""
        allowed = accounts_allowed(
            (datetime.now(UTC) - host.first_seen).days,
            first_day=self._settings.host_accounts_first_day,
            per_day=self._settings.host_accounts_per_day,
        )
        joined = 0
        client = XrpcClient(self._fetcher, host.url)
        for nsid in scope.collections:
            guard = PageGuard(_PAGES)
            cursor: str | None = None
            while True:
                body = await _read(client, nsid, cursor)
                entries, following = read_page(body, "repos")
                dids = _dids(entries)
                join = _adder(dids[:_PAGE] if bounded else dids, scope)
                joined += await asyncio.to_thread(self._database.run, join)
                if bounded and joined >= allowed:
                    return
                cursor = guard.enter(entries, following)
                if cursor is None:
                    break


async def _read(client: XrpcClient, nsid: str, cursor: str | None) -> bytes:
    """Return one page, waiting as long as the host asks for."""
    while True:
        try:
            return await client.query_bytes(
                LIST_REPOS_BY_COLLECTION,
                {"collection": nsid, "limit": _PAGE, "cursor": cursor},
                max_bytes=_PAGE_BYTES,
            )
        except RateLimitedError as error:
            await asyncio.sleep(min(max(error.retry_after, 1.0), _LONGEST_REST))


def _adder(dids: Sequence[str], scope: Scope) -> Callable[[Conn], int]:
    return lambda conn: add_accounts(conn, dids, mend=True, scope=scope)


def _dids(entries: Sequence[dict[str, Any]]) -> list[str]:
    texts = (entry.get("did") for entry in entries)
    return [text for text in texts if type(text) is str and is_did(text)]
