"""Estimate of a scope before it starts: accounts, disk, hours.

Accounts are counted by asking hosts. Their cost is measured on our own index once it is
large enough; before, it comes from benchmarks and the reports of others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from crawler.hosts.discovery import read_page
from crawler.hosts.host_name import parse_host
from crawler.methods import LIST_HOSTS, LIST_REPOS, LIST_REPOS_BY_COLLECTION
from network.errors import IdentityError, NetworkError, XrpcError
from network.http.client import Fetcher
from network.identity.resolver import IdentityResolver
from network.xrpc.client import XrpcClient
from storage.collections import GRAPH_FOLLOW
from storage.hosts.host_rows import HOST_BANNED, load_hosts
from storage.postgres.pool import Conn
from storage.repos.scope_rows import Scope, ScopeKind

LIST_RECORDS: Final = "com.atproto.repo.listRecords"

RECORDS_PER_ACCOUNT: Final = 200.0
"""Reported by an index of the whole network: 3,000 million rows of 15 million repos."""
BYTES_PER_RECORD: Final = 571.0
"""Measured: the whole database, search and indexes included, per record, after the
import of 16,611 records of `bench`."""
RECORDS_PER_S: Final = 10_000.0
"""Measured: records imported in a second of one processor (10,944), same run."""
LOOKUPS_PER_S: Final = 50.0
"""Requests per second to a PLC directory that is not mirrored."""

OWN_REPOS: Final = 50
"""Number of repos from which on our own averages are used."""
MAX_PAGES: Final = 100
_PAGE_BYTES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Sources:
    """Hosts and relays to ask, and the limits of our crawl."""

    hosts: tuple[str, ...] = ()
    relays: tuple[str, ...] = ()
    dev: bool = False
    requests_per_s: float = 5.0
    is_mirrored: bool = False
    account_cap: int = 0


@dataclass(frozen=True, slots=True)
class Basis:
    """Cost of one account. `own`: measured on this index."""

    records_per_account: float = RECORDS_PER_ACCOUNT
    bytes_per_record: float = BYTES_PER_RECORD
    own: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """Number of accounts; a lower bound unless `complete`.

    `largest` is the most on one host, if known. `unanswered` hosts did not reply.
    """

    accounts: int
    complete: bool = True
    largest: int | None = None
    unanswered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cost of a scope. `slowest` names the part that takes the hours."""

    counted: Counted
    basis: Basis
    records: int
    disk_bytes: int
    hours: float
    slowest: str
    over_cap: bool


def read_basis(conn: Conn) -> Basis:
    """Return our own averages if the index is large enough, else the defaults."""
    row = conn.execute(
        """
        SELECT (SELECT count(*) FROM repo WHERE state = 'synchronized'),
            (SELECT count(*) FROM record), pg_database_size(current_database())
        """
    ).fetchone()
    assert row is not None
    repos, records, size = row
    if repos < OWN_REPOS or not records:
        return Basis()
    return Basis(records / repos, size / records, own=True)


def estimate(counted: Counted, basis: Basis, sources: Sources) -> Estimate:
    """Combine counts and averages.

    The slowest of three parts decides: reading records, requests to the largest host,
    identity lookups.
    """
    accounts = counted.accounts
    records = accounts * basis.records_per_account
    on_one = accounts if counted.largest is None else counted.largest
    takes = {
        "reading records": records / RECORDS_PER_S,
        "requests to one host": on_one / sources.requests_per_s,
        "identity lookups": 0.0 if sources.is_mirrored else accounts / LOOKUPS_PER_S,
    }
    slowest = max(takes, key=lambda name: takes[name])
    return Estimate(
        counted,
        basis,
        round(records),
        round(records * basis.bytes_per_record),
        takes[slowest] / 3_600.0,
        slowest,
        over_cap=0 < sources.account_cap < accounts,
    )


def with_added(conn: Conn, sources: Sources) -> Sources:
    """Add the hosts and relays that `bigworld host add` stored."""
    named: dict[bool, list[str]] = {False: [*sources.hosts], True: [*sources.relays]}
    for host in load_hosts(conn).values():
        texts = named[host.relay]
        known = {parse_host(text, dev=sources.dev).name for text in texts}
        if host.trusted and host.state != HOST_BANNED and host.hostname not in known:
            texts.append(host.url)
    return replace(sources, hosts=tuple(named[False]), relays=tuple(named[True]))


async def count_accounts(
    scope: Scope, sources: Sources, fetcher: Fetcher, resolver: IdentityResolver
) -> Counted:
    """Ask the hosts for the number of accounts of a scope."""
    if scope.kind is ScopeKind.DIDS:
        return Counted(len(scope.seeds))
    if scope.kind is ScopeKind.FOLLOWS:
        return await _count_follows(scope.seeds, fetcher, resolver)
    if scope.kind is ScopeKind.COLLECTION:
        return await _count_members(scope.collections, sources, fetcher)
    return await _count_network(sources, fetcher)


async def _count_follows(
    seeds: Sequence[str], fetcher: Fetcher, resolver: IdentityResolver
) -> Counted:
    found, complete, silent = set(seeds), True, []
    for did in seeds:
        try:
            document = await resolver.resolve_did(did)
            if document.pds is None:
                raise XrpcError("RepoNotFound", f"{did} names no host", 400)
            pages = _Pages(fetcher, document.pds, LIST_RECORDS, "records")
            async for record in pages.read(
                repo=did, collection=GRAPH_FOLLOW, limit=100
            ):
                value = record.get("value")
                subject = value.get("subject") if isinstance(value, dict) else None
                if isinstance(subject, str):
                    found.add(subject)
            complete &= pages.complete
        except (IdentityError, NetworkError, XrpcError):
            silent.append(did)
    return Counted(len(found), complete and not silent, unanswered=tuple(silent))


async def _count_members(
    collections: Sequence[str], sources: Sources, fetcher: Fetcher
) -> Counted:
    found: set[str] = set()
    complete, silent = True, _missing_sources(sources)
    for host in sources.relays or sources.hosts:
        try:
            for nsid in collections:
                pages = _Pages(fetcher, host, LIST_REPOS_BY_COLLECTION, "repos")
                async for repo in pages.read(collection=nsid, limit=1_000):
                    found.add(str(repo.get("did")))
                complete &= pages.complete
        except (NetworkError, XrpcError):
            silent.append(host)
    return Counted(len(found), complete and not silent, unanswered=tuple(silent))


async def _count_network(sources: Sources, fetcher: Fetcher) -> Counted:
    hosts: dict[str, int] = {}
    complete, silent = True, _missing_sources(sources)
    for relay in sources.relays:
        try:
            pages = _Pages(fetcher, relay, LIST_HOSTS, "hosts")
            async for host in pages.read(limit=1_000):
                accounts = host.get("accountCount")
                name = str(host.get("hostname")).lower().removesuffix(".")
                if type(accounts) is int and accounts > hosts.get(name, -1):
                    hosts[name] = accounts
                complete &= type(accounts) is int
            complete &= pages.complete
        except (NetworkError, XrpcError):
            silent.append(relay)
    for url in sources.hosts:
        try:
            pages = _Pages(fetcher, url, LIST_REPOS, "repos")
            listed = len([repo async for repo in pages.read(limit=1_000)])
            # A relay may have counted it too.
            name = parse_host(url, dev=sources.dev).name
            hosts[name] = max(listed, hosts.get(name, 0))
            complete &= pages.complete
        except (NetworkError, XrpcError):
            silent.append(url)
    return Counted(
        sum(hosts.values()),
        complete and not silent,
        max(hosts.values(), default=0),
        tuple(silent),
    )


def _missing_sources(sources: Sources) -> list[str]:
    if sources.relays or sources.hosts:
        return []
    return ["no BIGWORLD_RELAYS and no BIGWORLD_HOSTS to ask"]


class _Pages:
    """Entries of a listing, up to MAX_PAGES pages; then `complete` is set."""

    def __init__(self, fetcher: Fetcher, host: str, nsid: str, name: str) -> None:
        self.complete = True
        self._client = XrpcClient(fetcher, host)
        self._nsid = nsid
        self._name = name

    async def read(self, **params: Any) -> AsyncIterator[dict[str, Any]]:
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            body = await self._client.query_bytes(
                self._nsid, {**params, "cursor": cursor}, max_bytes=_PAGE_BYTES
            )
            entries, following = read_page(body, self._name)
            for entry in entries:
                yield entry
            if following is None or following == cursor or not entries:
                return
            cursor = following
        self.complete = False
