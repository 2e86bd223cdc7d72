"""What the verifier must know of an account, kept in memory: key, host, admission.

Bounded, least recently used out first. Filled in bulk from Postgres; what is not
there is looked up on the network by somebody else and told with `learn`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crawler.hosts.host_name import HostName, InvalidHostError, parse_host
from crawler.live.rounds import LookedUp
from protocol.errors import ProtocolError
from protocol.identity.did_document import DidDocument, parse_did_document
from protocol.identity.keys import PublicKey, parse_did_key
from protocol.syntax.did import Did
from protocol.syntax.tid import Tid
from storage.postgres.pool import Conn
from storage.repos import identities, repo_rows

SAVED_S: Final = 100.0
"""An account may save up so many seconds of its budget of commits: whoever imports or
deletes a thousand records at once, or was not read for hours, is not too fast."""


EARLY_LOOKS: Final = 5
"""How often an account may be looked up ahead of its minutes, which are then paid for:
it may change its handle several times in one."""


@dataclass(slots=True)
class Account:
    """One account. `repo_host` is the host row its repo belongs to, None while the
    account is not admitted; `refreshed_at` is on the monotonic clock, as is `spent`,
    until when its budget of commits is; `rev` is the newest revision that was proven,
    here or before."""

    did: Did
    key: PublicKey | None = None
    pds: HostName | None = None
    pds_url: str | None = None
    found: bool = False
    # whether nobody could be asked when it was last looked up
    unanswered: bool = False
    fetched_at: datetime | None = None
    admitted: bool = False
    repo_host: int | None = None
    refreshed_at: float = float("-inf")
    # seconds that a look came too early: so much later is the next one due
    owed: float = 0.0
    # until when its looks after identity events are paid for, on the monotonic clock
    doubted: float = float("-inf")
    rev: Tid | None = None
    spent: float = float("-inf")

    def set_document(self, document: DidDocument | None, *, dev: bool) -> None:
        """Take over what a DID document says; None: there is no usable one."""
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


class AccountBook:
    """DID -> Account, at most `limit` of them. Not thread-safe: one owner."""

    def __init__(
        self,
        limit: int,
        *,
        dev: bool,
        refresh_interval: float,
        commits_per_s: float,
        calm: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._dev = dev
        self._refresh_interval = refresh_interval
        self._commit_cost = 1.0 / commits_per_s
        self._calm = calm
        self._clock = clock
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def get(self, did: str) -> Account | None:
        """Return the account if it is in memory."""
        account = self._accounts.get(did)
        if account is not None:
            self._accounts.move_to_end(did)
        return account

    def missing(self, dids: Iterable[str]) -> list[str]:
        """Return those of the DIDs that are not in memory."""
        return [did for did in dids if did not in self._accounts]

    def load(self, conn: Conn, dids: Iterable[Did]) -> None:
        """Bring accounts in from Postgres; those without a document stay missing."""
        wanted = list(dids)
        if not wanted:
            return
        cached = identities.load_documents(conn, wanted)
        known = repo_rows.find_repos(conn, wanted)
        for did in wanted:
            stored = cached.get(did)
            if stored is None or stored.document is None:
                continue
            try:
                document = parse_did_document(stored.document, did, dev=self._dev)
            except ProtocolError:
                continue
            account = self._put(did)
            account.set_document(document, dev=self._dev)
            account.fetched_at = stored.fetched_at
            self._set_repo(account, known)

    def learn(self, conn: Conn, answers: Iterable[LookedUp]) -> list[Account]:
        """Take over the results of look-ups on the network, each of which counts as a
        refresh; return their accounts.

        One that failed leaves what was known as it is.
        """
        found = list(answers)
        strangers = self.missing({answer.did for answer in found})
        known = repo_rows.find_repos(conn, strangers) if strangers else {}
        accounts = []
        for answer in found:
            account = self._accounts.get(answer.did)
            if account is None:
                account = self._put(answer.did)
                self._set_repo(account, known)
            account.unanswered = answer.failed
            if not answer.failed:
                account.set_document(answer.document, dev=self._dev)
            account.refreshed_at = self._clock() + account.owed
            account.owed = 0.0
            accounts.append(account)
        return accounts

    def may_refresh(self, account: Account) -> bool:
        """Tell whether the network may be asked about this account again now."""
        return self._clock() - account.refreshed_at >= self._refresh_interval

    def may_insist(self, account: Account) -> bool:
        """Tell whether the network may be asked though it was asked a moment ago.

        Once, on the account of the next look: it is then asked no more often on the
        whole than once in an interval. Who is told so asks.
        """
        now = self._clock()
        if account.refreshed_at > now or account.owed:
            return False
        account.owed = account.refreshed_at + self._refresh_interval - now
        return True

    def doubt_in(self, account: Account) -> float:
        """Return in how many seconds an identity event of an account is followed.

        At once for the first `EARLY_LOOKS`, and one an interval on the whole; others
        wait for the next together.
        """
        now, interval = self._clock(), self._refresh_interval
        due = max(account.doubted, now - EARLY_LOOKS * interval) + interval
        if due <= now:
            account.doubted = due
        return max(0.0, due - now)

    def may_write(self, account: Account) -> bool:
        """Take one commit of an account's budget; tell whether there was one.

        What comes in spite of that counts too, up to `calm` seconds of the budget: who
        goes on as before stays over it, and is not followed now and then.
        """
        now = self._clock()
        spent = max(account.spent, now - SAVED_S) + self._commit_cost
        account.spent = min(spent, now + self._calm)
        return spent <= now

    def forget(self, did: str) -> None:
        """Drop an account: it is read anew when it is next seen."""
        self._accounts.pop(did, None)

    def clear(self) -> None:
        """Drop all accounts."""
        self._accounts.clear()

    def _put(self, did: Did) -> Account:
        account = self._accounts[did] = Account(did)
        while len(self._accounts) > self._limit:
            self._accounts.popitem(last=False)
        return account

    @staticmethod
    def _set_repo(account: Account, known: Mapping[Did, repo_rows.KnownRepo]) -> None:
        repo = known.get(account.did)
        account.admitted = repo is not None
        account.repo_host = None if repo is None else repo.host
        account.rev = None if repo is None else repo.rev
