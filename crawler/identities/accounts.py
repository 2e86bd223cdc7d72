"""The gate's knowledge of accounts: signing key, host, admission, commit budget.

A bounded LRU, filled in bulk from Postgres. `expire` has an entry read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cachetools import LRUCache

from crawler.hosts.host_name import HostName, InvalidHostError, parse_host
from protocol.errors import ProtocolError
from protocol.identity.did_document import DidDocument, parse_did_document
from protocol.identity.keys import PublicKey, parse_did_key
from protocol.syntax.did import Did
from protocol.syntax.tid import Tid
from storage.postgres.pool import Conn
from storage.repos import identities, repo_rows

SAVED_S: Final = 100.0
"""Seconds of its commit budget that an account may save up, for bulk imports and after
pauses."""

EARLY_REFRESHES: Final = 5
"""Refreshes that an account may have ahead of its one a minute; the later ones wait
until these are made up for."""


@dataclass(slots=True)
class Account:
    """One account. Times are on the monotonic clock, but `fetched_at`.

    - found: there is a usable DID document
    - current: this is what Postgres held when it was last read
    - admitted: its repo is indexed, for the host `repo_host`
    - rev: the newest revision proven
    - looked_up_at: its first lookup, or the last one that had to be fresh
    - refreshes_until: its identity refreshes are accounted for until then
    - next_allowed_at: its commit budget is used up until then
    """

    did: Did
    key: PublicKey | None = None
    pds: HostName | None = None
    pds_url: str | None = None
    found: bool = False
    current: bool = False
    fetched_at: datetime | None = None
    admitted: bool = False
    repo_host: int | None = None
    rev: Tid | None = None
    looked_up_at: float = float("inf")
    refreshes_until: float = float("-inf")
    next_allowed_at: float = float("-inf")

    def set_document(self, document: DidDocument | None, *, dev: bool) -> None:
        """Copy key and host from a DID document; None clears them."""
        self.key, self.pds, self.pds_url = None, None, None
        self.found = document is not None
        if document is None:
            return
        if document.signing_key is not None:
            self.key = parse_did_key(document.signing_key)
        if document.pds is not None:
            try:
                address = parse_host(document.pds, dev=dev)
            except InvalidHostError:
                return
            self.pds, self.pds_url = address.name, address.url

    def belongs_to(self, hostname: HostName, *, relay: bool) -> bool:
        """Return True if this host may send events of the account (specs/sync)."""
        return relay or self.pds == hostname


class AccountBook:
    """DID -> Account, at most `limit` of them. Not thread-safe."""

    def __init__(
        self,
        limit: int,
        *,
        dev: bool,
        refresh_interval: float,
        commits_per_s: float,
        cooldown: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dev = dev
        self._refresh_interval = refresh_interval
        self._commit_cost = 1.0 / commits_per_s
        self._cooldown = cooldown
        self._clock = clock
        self._accounts: LRUCache[str, Account] = LRUCache(limit)

    def __len__(self) -> int:
        return len(self._accounts)

    def get(self, did: str) -> Account | None:
        """Return the account if it is in memory."""
        return self._accounts.get(did)

    def put(self, did: Did) -> Account:
        """Return the account, added without a document if it is not in memory."""
        account = self.get(did)
        if account is None:
            account = self._accounts[did] = Account(did)
        return account

    def missing(self, dids: Iterable[str]) -> list[str]:
        """Return the DIDs that must be read from Postgres, each once."""
        return [did for did in dict.fromkeys(dids) if not self._is_current(did)]

    def _is_current(self, did: str) -> bool:
        account = self._accounts.get(did)
        # An account without a document may get one at any moment.
        return account is not None and account.current and account.found

    def load(self, conn: Conn, dids: Iterable[str]) -> None:
        """Read accounts from Postgres. DIDs without a document are not added."""
        wanted = list(map(Did, dids))
        if not wanted:
            return
        cached = identities.load_documents(conn, wanted)
        known = repo_rows.find_repos(conn, wanted)
        for did in wanted:
            document, stored = None, cached.get(did)
            if stored is not None and stored.document is not None:
                try:
                    document = parse_did_document(stored.document, did, dev=self._dev)
                except ProtocolError:
                    document = None
            if document is None and did not in self._accounts:
                continue
            account = self.put(did)
            if stored is not None:
                account.set_document(document, dev=self._dev)
                account.fetched_at = stored.fetched_at
            account.current = True
            repo = known.get(did)
            account.admitted = repo is not None
            account.repo_host = None if repo is None else repo.host
            if repo is not None and repo.rev is not None:
                account.rev = max(repo.rev, account.rev or repo.rev)

    def expire(self, fetched: Mapping[str, datetime] | None = None) -> None:
        """Have accounts read again that have a newer document; None: all accounts."""
        if fetched is None:
            for account in self._accounts.values():
                account.current = False
            return
        for did, fetched_at in fetched.items():
            found = self._accounts.get(did)
            if found is not None and (
                found.fetched_at is None or found.fetched_at < fetched_at
            ):
                found.current = False

    def refresh_in(self, account: Account) -> float:
        """Return in how many seconds the identity of an account may be refreshed.

        At once for the first `EARLY_REFRESHES`, then once an interval on average;
        requests between two of them share the next.
        """
        now, interval = self._clock(), self._refresh_interval
        earliest = now - EARLY_REFRESHES * interval
        due = max(account.refreshes_until, earliest) + interval
        if due <= now:
            account.refreshes_until = due
        return max(0.0, due - now)

    def must_refresh(self, account: Account) -> bool:
        """Return True if the lookup of an account needs a fresh document.

        It does if the account has a document, or if the last lookup that found none is
        an interval old.
        """
        now = self._clock()
        fresh = account.found or account.looked_up_at + self._refresh_interval <= now
        account.looked_up_at = now if fresh else min(account.looked_up_at, now)
        return fresh

    def may_write(self, account: Account) -> bool:
        """Take one commit of the account's budget; return False if it is used up.

        Rejected commits count too, up to `cooldown` seconds of the budget: an account
        that does not slow down stays rejected.
        """
        now = self._clock()
        used = max(account.next_allowed_at, now - SAVED_S) + self._commit_cost
        account.next_allowed_at = min(used, now + self._cooldown)
        return used <= now

    def forget(self, did: str) -> None:
        """Drop an account; it is read again when it is next seen."""
        self._accounts.pop(did, None)
