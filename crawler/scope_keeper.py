"""Keeps the accounts of the scope what they should be while the crawl runs: whom the
seeds follow, who holds a collection; those who joined are let in, those who left are
handed over for removal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg

from crawler.accounts import Account
from crawler.admission import Admission
from crawler.database import Database, StoppedError
from crawler.discovery import read_page
from crawler.lookups import look_up
from crawler.methods import LIST_REPOS_BY_COLLECTION
from crawler.outside import Outside
from crawler.page_guard import PageGuard
from crawler.settings import CrawlSettings
from crawler.waiting import wait_first
from network.errors import NetworkError, XrpcError
from network.xrpc_client import XrpcClient
from protocol import cbor
from protocol.errors import ProtocolError
from protocol.syntax.did import Did, is_did
from storage import hosts, repos
from storage.collections import COLLECTION_IDS, GRAPH_FOLLOW
from storage.record_codec import decompress
from storage.scope import (
    Scope,
    ScopeKind,
    add_accounts,
    claim_missing,
    find_outside,
    load_accounts,
    load_scope,
    remove_accounts,
)
from storage.selections import next_comparison, note_compared

log = logging.getLogger(__name__)

_LOOK: Final = 1.0
_LOOKUPS: Final = 32
_REMOVED_AT_ONCE: Final = 20
_COMPARED_AT_ONCE: Final = 200
_RETRY: Final = 600.0
_SEARCH_AGAIN: Final = 86_400.0
_SEARCH_RETRY: Final = 300.0
_PAGE: Final = 1_000
_PAGES: Final = 100_000
_PAGE_BYTES: Final = 4_000_000


class ScopeKeeper:
    """`run` it beside the crawl, once a database.

    `remove(dids)` takes accounts out of the index that do not belong to it any more;
    `keep_wanted(dids)` brings repos to what is to be kept of them. Both block.
    """

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        outside: Outside,
        remove: Callable[[Sequence[str]], object],
        keep_wanted: Callable[[Sequence[str]], object],
    ) -> None:
        self._settings = settings
        self._database = database
        self._outside = outside
        self._remove = remove
        self._keep_wanted = keep_wanted
        self._admission = Admission(settings)
        self._changed_at: datetime | None = None
        self._seed_revs: dict[str, str] = {}
        self._follows: dict[str, set[str]] = {}
        self._search_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        while not stop.is_set():
            try:
                busy = await self.look()
            except psycopg.Error as error:
                log.warning("scope_not_kept", extra={"why": str(error)})
                busy = False
            except StoppedError:
                return
            if not busy:
                await wait_first(stop, seconds=_LOOK)

    async def look(self) -> bool:
        """One round; return whether there is more to do at once."""
        scope = await self._run(load_scope)
        if scope.changed_at != self._changed_at:
            self._changed_at = scope.changed_at
            self._seed_revs, self._follows, self._search_at = {}, {}, 0.0
        busy = await self._compare()
        if scope.whole:
            return busy
        if scope.kind is ScopeKind.FOLLOWS:
            await self._run(lambda conn: self._follow(conn, scope))
        elif scope.kind is ScopeKind.COLLECTION:
            await self._search(scope)
        joined = await self._let_in()
        if scope.kind is ScopeKind.FOLLOWS and not self._knows_follows(scope):
            return joined or busy
        outside = await self._run(lambda conn: find_outside(conn, _REMOVED_AT_ONCE))
        if outside:
            await asyncio.to_thread(self._remove, outside)
        return joined or busy or bool(outside)

    async def _compare(self) -> bool:
        """Hold the next repos against what is to be kept of them; whether there were
        any."""
        page = await self._run(lambda conn: next_comparison(conn, _COMPARED_AT_ONCE))
        if page is None:
            return False
        await asyncio.to_thread(self._keep_wanted, page.dids)
        await self._run(lambda conn: note_compared(conn, page))
        return True

    async def _run(self, work: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        return await asyncio.to_thread(self._database.run, work)

    # whom the seeds follow

    def _follow(self, conn: psycopg.Connection[Any], scope: Scope) -> None:
        """Compare the follows of the seeds whose repo changed with the accounts."""
        known = repos.find_repos(conn, scope.seeds)
        changed = False
        for did, repo in known.items():
            if repo.rev is not None and self._seed_revs.get(did) != repo.rev:
                self._follows[did] = set(_read_follows(conn, repo.actor))
                self._seed_revs[did] = repo.rev
                changed = True
        if not changed:
            return
        wanted = set(scope.seeds).union(*self._follows.values())
        held = set(load_accounts(conn)[0])
        add_accounts(conn, wanted - held, mend=True)
        # A seed that is not here yet may follow whom nobody else does.
        if self._knows_follows(scope):
            remove_accounts(conn, held - wanted)

    def _knows_follows(self, scope: Scope) -> bool:
        return len(self._follows) == len(scope.seeds)

    # who holds a collection

    async def _search(self, scope: Scope) -> None:
        """Ask relays, or the hosts where there is none, who has records."""
        now = asyncio.get_running_loop().time()
        if now < self._search_at:
            return
        self._search_at = now + _SEARCH_AGAIN
        known = (await self._run(hosts.load_hosts)).values()
        relays = [host for host in known if host.relay]
        for host in relays or known:
            for nsid in scope.collections:
                try:
                    await self._search_host(host.url, nsid)
                except (NetworkError, XrpcError) as error:
                    # One that has no such list: its accounts join as they write.
                    self._search_at = now + _SEARCH_RETRY
                    log.info(
                        "collection_not_listed",
                        extra={"host": host.hostname, "why": str(error)},
                    )

    async def _search_host(self, url: str, nsid: str) -> None:
        client = XrpcClient(self._outside.fetcher, url)
        guard = PageGuard(_PAGES)
        cursor: str | None = None
        while True:
            body = await client.query_bytes(
                LIST_REPOS_BY_COLLECTION,
                {"collection": nsid, "limit": _PAGE, "cursor": cursor},
                max_bytes=_PAGE_BYTES,
            )
            entries, following = read_page(body, "repos")
            await self._run(_adder(_dids(entry.get("did") for entry in entries)))
            cursor = guard.enter(entries, following)
            if cursor is None:
                return

    # letting in

    async def _let_in(self) -> bool:
        """Look up accounts of the scope that have no repo here; whether there were
        any."""
        dids = await self._run(lambda c: claim_missing(c, _LOOKUPS, wait=_RETRY))
        if not dids:
            return False
        accounts = await asyncio.gather(*(self._identify(Did(did)) for did in dids))
        for account in accounts:
            if account.pds is None:
                log.warning("account_without_host", extra={"did": account.did})

        def admit(conn: psycopg.Connection[Any]) -> None:
            relayed = any(host.relay for host in hosts.load_hosts(conn).values())
            self._admission.admit(conn, accounts, relay=relayed)

        await self._run(admit)
        return True

    async def _identify(self, did: Did) -> Account:
        answer = await look_up(self._outside.resolver, did, refresh=False)
        account = Account(did)
        account.set_document(answer.document, dev=self._settings.dev)
        return account


def _adder(dids: Sequence[str]) -> Callable[[psycopg.Connection[Any]], int]:
    return lambda conn: add_accounts(conn, dids, mend=True)


def _read_follows(conn: psycopg.Connection[Any], actor: int) -> Iterable[str]:
    rows = conn.execute(
        "SELECT value FROM record WHERE actor = %s AND collection = %s",
        (actor, COLLECTION_IDS[GRAPH_FOLLOW]),
    )
    for (value,) in rows:
        try:
            record = cbor.decode_fast(decompress(value))
        except ProtocolError:
            continue
        if type(record) is dict:
            yield from _dids([record.get("subject")])


def _dids(texts: Iterable[Any]) -> list[str]:
    return [text for text in texts if type(text) is str and is_did(text)]
