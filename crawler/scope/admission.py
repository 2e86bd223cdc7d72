"""The admission policy: accounts to index, and the host of each repo."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import TTLCache

from crawler.hosts.host_name import HostName
from crawler.identities.accounts import Account
from crawler.scope.members import ScopeView
from crawler.settings import CrawlSettings
from storage import jobs
from storage.hosts import host_rows
from storage.hosts.host_budget import (
    admit_accounts,
    count_accounts,
    return_accounts,
)
from storage.postgres.pool import Conn
from storage.repos import repo_rows

IDENTITY_JOB: Final = "identity"
"""A job kind, keyed by DID: fetch the DID document and verify the handle."""

LOOKUP_JOB: Final = "lookup"
"""A job kind, keyed by DID: fetch the DID document, as frames of the account were
dropped without it; then have its repo fetched."""

_REFUSED_FOR: Final = 60.0
_MOST_REFUSED: Final = 10_000
_LAST_ID: Final = 2**31


@dataclass(frozen=True, slots=True)
class Placement:
    """The host that a DID document names."""

    did: str
    pds: HostName
    url: str


class Admission:
    """The admission policy. `refused_hosts` may not add accounts for a while. Not
    thread-safe."""

    def __init__(
        self, settings: CrawlSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.scope = ScopeView(clock)
        self._settings = settings
        self.refused_hosts: TTLCache[HostName, None] = TTLCache(
            _MOST_REFUSED, _REFUSED_FOR, clock
        )

    def in_scope(self, did: str) -> bool:
        """Return True if the account belongs to the scope."""
        return self.scope.includes(did)

    def admit(
        self, conn: Conn, accounts: Sequence[Account], *, relay: bool, wait: float = 0.0
    ) -> None:
        """Admit as many of these accounts as their hosts and the account cap allow.

        Sets `admitted` and `repo_host` of those, and queues their repos in `wait`
        seconds and their handles. `relay`: a relay sent them, so their hosts need not
        be streamed.
        """
        by_host: dict[HostName, list[Account]] = {}
        for account in accounts:
            if account.pds is not None:
                by_host.setdefault(account.pds, []).append(account)
        # All processes lock hosts in the same order.
        ids = host_rows.find_hosts(conn, by_host)
        for pds, group in sorted(
            by_host.items(),
            key=lambda item: (
                (ids[item[0]].id, "") if item[0] in ids else (_LAST_ID, item[0])
            ),
        ):
            self._admit_of(conn, pds, group, relay, wait)

    def _admit_of(
        self, conn: Conn, pds: HostName, group: list[Account], relay: bool, wait: float
    ) -> None:
        known = repo_rows.find_repos(conn, [account.did for account in group])
        fresh = [account for account in group if account.did not in known]
        for account in group:
            if account.did in known:
                account.admitted = True
                account.repo_host = known[account.did].host
        if not fresh:
            return
        # Returning accounts do not count as new.
        was_here = repo_rows.find_returning(conn, [account.did for account in fresh])
        fresh.sort(key=lambda account: account.did not in was_here)
        assert fresh[0].pds_url is not None
        host = find_or_put_host(conn, pds, fresh[0].pds_url, relay=relay)
        granted = admit_accounts(
            conn,
            host,
            len(fresh),
            first_day=self._settings.host_accounts_first_day,
            per_day=self._settings.host_accounts_per_day,
            room=room_left(conn, self._settings),
            returning=len(was_here),
        )
        if granted < len(fresh):
            self.refused_hosts[pds] = None
        accepted = fresh[:granted]
        if not accepted:
            return
        dids = [account.did for account in accepted]
        added = repo_rows.add_repos(
            conn, host, dids, wait=max(wait, self.scope.settles_in)
        )
        # Another process has admitted the others meanwhile.
        return_accounts(conn, host, granted - added)
        jobs.put_jobs(conn, IDENTITY_JOB, dids)
        for account in accepted:
            account.admitted = True
            account.repo_host = host


def room_left(conn: Conn, settings: CrawlSettings) -> int:
    """Return how many accounts the account cap still allows."""
    if settings.account_cap is None:
        return 2**31 - 1
    return max(0, settings.account_cap - count_accounts(conn))


def find_or_put_host(conn: Conn, pds: HostName, url: str, *, relay: bool) -> int:
    """Return the id of a host that a DID document names.

    New hosts behind a relay are not streamed.
    """
    return _find_or_put_hosts(conn, {pds: url}, relay=relay)[pds]


def place_repos(
    conn: Conn, placements: Sequence[Placement], *, relay: bool
) -> list[int]:
    """Store the current hosts of admitted accounts, each named once; return the host of
    each."""
    urls = {place.pds: place.url for place in placements}
    ids = _find_or_put_hosts(conn, urls, relay=relay)
    found = [ids[place.pds] for place in placements]
    dids = [place.did for place in placements]
    repo_rows.move_repos(conn, list(zip(dids, found, strict=True)))
    return found


def _find_or_put_hosts(
    conn: Conn, urls: Mapping[HostName, str], *, relay: bool
) -> dict[HostName, int]:
    known = host_rows.find_hosts(conn, urls)
    found = {name: known[name].id for name in urls if name in known}
    state = host_rows.HOST_RELAYED if relay else host_rows.HOST_NEW
    # Sorted, so that two transactions never deadlock.
    for name in sorted(urls.keys() - found.keys()):
        found[name], _ = host_rows.put_host(
            conn, name, urls[name], source=host_rows.SOURCE_DOCUMENT, state=state
        )
    return found
