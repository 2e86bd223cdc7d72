"""Reconciliation of the index with its scope while the crawl runs.

Follows the seeds' follows and the members of collections, admits accounts that joined,
and removes those that left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import psycopg

from crawler.database import Database, StoppedError
from crawler.identities.accounts import Account
from crawler.identities.lookups import look_up
from crawler.identities.network_clients import NetworkClients
from crawler.live.waiting import wait_first
from crawler.scope.admission import Admission
from crawler.scope.collection_members import CollectionMembers
from crawler.settings import CrawlSettings
from protocol.data import cbor
from protocol.errors import ProtocolError
from protocol.syntax.did import Did, is_did
from storage.collections import COLLECTION_IDS, GRAPH_FOLLOW
from storage.hosts import host_relays
from storage.postgres.pool import Conn
from storage.records.record_codec import decompress
from storage.repos.scope_rows import (
    Scope,
    ScopeKind,
    add_accounts,
    claim_missing,
    find_out_of_scope,
    hold_scope,
    load_accounts,
    load_scope,
    remove_accounts,
)
from storage.repos.selections import next_comparison, note_compared

log = logging.getLogger(__name__)

_LOOK: Final = 1.0
_LOOKUPS: Final = 32
_REMOVED_AT_ONCE: Final = 20
_COMPARED_AT_ONCE: Final = 200
_RETRY: Final = 600.0
# Accounts that a missing seed may follow are kept for so long.
_PATIENCE: Final = 3_600.0
# Looking for accounts out of scope takes a hundredth of the time.
_SHARE: Final = 100.0
_LONGEST_SHARE: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class _Follows:
    """The follows of each seed whose repo is here. `marks`: the state of the repo that
    was read; `known`: all seeds are here."""

    of: Mapping[str, frozenset[str]] = field(default_factory=dict)
    marks: Mapping[str, Any] = field(default_factory=dict)
    known: bool = False


class ScopeReconciler:
    """`run` it beside the crawl, once for a database.

    `remove(dids)` removes accounts that left; `keep_wanted(dids)` reduces repos to
    their wanted collections. Both block.
    """

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        clients: NetworkClients,
        remove: Callable[[Sequence[str]], object],
        keep_wanted: Callable[[Sequence[str]], object],
    ) -> None:
        self._settings = settings
        self._database = database
        self._clients = clients
        self._remove = remove
        self._keep_wanted = keep_wanted
        self._admission = Admission(settings)
        self._search = CollectionMembers(settings, database, clients)
        self._changed_at: datetime | None = None
        self._follows = _Follows()
        self._next_removal_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Reconcile until `stop`."""
        try:
            while not stop.is_set():
                try:
                    busy = await self.look()
                except psycopg.Error as error:
                    log.warning("scope_not_reconciled", extra={"why": str(error)})
                    busy = False
                if not busy:
                    await wait_first(stop, seconds=_LOOK)
        except StoppedError:
            return
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancel what runs between two rounds."""
        await self._search.close()

    async def look(self) -> bool:
        """Do one round; return True if there is more to do at once."""
        scope = await self._run(load_scope)
        if scope.changed_at != self._changed_at:
            await self._search.close()
            self._changed_at = scope.changed_at
            self._follows, self._next_removal_at = _Follows(), 0.0
        busy = await self._compare()
        if scope.whole:
            return busy
        if scope.kind is ScopeKind.FOLLOWS:
            follows = await self._run(lambda conn: self._follow(conn, scope))
            if follows is not self._follows:
                # Only after the commit.
                self._follows, self._next_removal_at = follows, 0.0
        elif scope.kind is ScopeKind.COLLECTION:
            self._search.keep_on(scope)
        joined = await self._admit_missing()
        if scope.kind is ScopeKind.FOLLOWS and not self._follows.known:
            return joined or busy
        return await self._remove_out_of_scope() or joined or busy

    async def _remove_out_of_scope(self) -> bool:
        """Remove some accounts out of scope; return True if there were any."""
        clock = asyncio.get_running_loop().time
        began = clock()
        if began < self._next_removal_at:
            return False
        leaving = await self._run(
            lambda conn: find_out_of_scope(conn, _REMOVED_AT_ONCE)
        )
        if not leaving:
            took = clock() - began
            self._next_removal_at = clock() + min(_SHARE * took, _LONGEST_SHARE)
            return False
        await asyncio.to_thread(self._remove, leaving)
        return True

    async def _compare(self) -> bool:
        """Compare the next repos with the wanted collections; return True if there were
        any."""
        page = await self._run(lambda conn: next_comparison(conn, _COMPARED_AT_ONCE))
        if page is None:
            return False
        await asyncio.to_thread(self._keep_wanted, page.dids)
        await self._run(lambda conn: note_compared(conn, page))
        return True

    async def _run(self, work: Callable[[Conn], Any]) -> Any:
        return await asyncio.to_thread(self._database.run, work)

    # follows of the seeds

    def _follow(self, conn: Conn, scope: Scope) -> _Follows:
        """Compare the changed follows of the seeds with the accounts. Return what is
        known once this is committed."""
        before = self._follows
        if not hold_scope(conn, scope):
            return before
        of, marks = dict(before.of), dict(before.marks)
        for did, actor, mark in _find_seeds(conn, scope.seeds):
            if did in of and marks[did] == mark:
                continue
            # Rows of deleted accounts may remain for a while.
            of[did] = frozenset(_read_follows(conn, actor)) if mark else frozenset()
            marks[did] = mark
        known = all(did in of for did in scope.seeds) or scope.age_s > _PATIENCE
        if marks == before.marks and known == before.known:
            return before
        if before.known:
            _follow_changes(conn, scope, before.of, of)
        elif of != before.of or known:
            wanted = set(scope.seeds).union(*of.values())
            held = load_accounts(conn)
            add_accounts(conn, wanted - held, mend=True)
            # A missing seed may follow other accounts.
            if known:
                remove_accounts(conn, held - wanted)
        return _Follows(of, marks, known)

    # admission

    async def _admit_missing(self) -> bool:
        """Admit accounts of the scope without a repo; return True if there were any."""
        dids = await self._run(lambda c: claim_missing(c, _LOOKUPS, wait=_RETRY))
        if not dids:
            return False
        accounts = await asyncio.gather(*(self._identify(Did(did)) for did in dids))
        for account in accounts:
            if account.pds is None:
                log.warning("account_without_host", extra={"did": account.did})

        def admit(conn: Conn) -> None:
            self._admission.admit(conn, accounts, relay=host_relays.has_relays(conn))

        await self._run(admit)
        return True

    async def _identify(self, did: Did) -> Account:
        answer = await look_up(self._clients.resolver, did, refresh=False)
        account = Account(did)
        account.set_document(answer.document, dev=self._settings.dev)
        return account


def _follow_changes(
    conn: Conn,
    scope: Scope,
    before: Mapping[str, frozenset[str]],
    now: Mapping[str, frozenset[str]],
) -> None:
    """Add and remove the accounts that seeds follow now, or no longer."""
    nobody: frozenset[str] = frozenset()
    gained: set[str] = set()
    lost: set[str] = set()
    for seed, follows in now.items():
        old = before.get(seed, nobody)
        if follows is not old:
            gained |= follows - old
            lost |= old - follows
    lost = {did for did in lost if not any(did in some for some in now.values())}
    if gained:
        add_accounts(conn, gained, mend=True)
    if lost:
        remove_accounts(conn, lost.difference(scope.seeds))


def _find_seeds(conn: Conn, seeds: Sequence[str]) -> list[tuple[str, int, Any]]:
    """Return (DID, actor, state of the repo) of the seeds with a repo; the state of a
    deleted one is None."""
    rows = conn.execute(
        """
        SELECT did, actor.id, CASE WHEN upstream_status <> 'deleted'
            THEN ARRAY[rev, synchronized_at::text] END
        FROM actor JOIN repo ON repo.actor = actor.id
        LEFT JOIN selection s ON s.id = repo.selection
        WHERE did = ANY(%s) AND (upstream_status = 'deleted'
            OR rev IS NOT NULL AND coalesce(%s = ANY(s.collections), true))
        """,
        (list(seeds), GRAPH_FOLLOW),
    )
    return rows.fetchall()


def _read_follows(conn: Conn, actor: int) -> Iterable[str]:
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
