"""What a scope will take, before it is begun: accounts, disk, hours.

Accounts are counted by asking hosts; what one takes is measured on our own index once
that is large enough, and before it is a figure of a benchmark or of others' reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from crawler.hosts.discovery import read_page
from crawler.hosts.host_name import parse_host
from crawler.methods import LIST_HOSTS, LIST_REPOS, LIST_REPOS_BY_COLLECTION
from network.errors import IdentityError, NetworkError, XrpcError
from network.http.client import Fetcher
from network.identity.resolver import IdentityResolver
from network.xrpc.client import XrpcClient
from service.runtime.config import Config
from storage.collections import GRAPH_FOLLOW
from storage.hosts.host_rows import HOST_BANNED, load_hosts
from storage.repos.scope_rows import Scope, ScopeKind

LIST_RECORDS: Final = "com.atproto.repo.listRecords"

RECORDS_PER_ACCOUNT: Final = 200.0
"""Reported of an index of the whole network: 3,000 million rows of 15 million repos."""
BYTES_PER_RECORD: Final = 571.0
"""Measured: the whole database, search documents and indexes included, divided by its
records, after the import of 16,611 records of the society that `bench` makes up."""
RECORDS_PER_S: Final = 10_000.0
"""Measured: records imported in a second of one processor (10,944), same run."""
LOOKUPS_PER_S: Final = 50.0
"""Requests per second that are sent to a PLC directory that is not mirrored."""

_OWN_REPOS: Final = 50
"""From so many repos on, our own averages are used."""
_PAGES: Final = 100
_PAGE_BYTES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Basis:
    """What one account takes. `own`: measured on this index."""

    records_per_account: float = RECORDS_PER_ACCOUNT
    bytes_per_record: float = BYTES_PER_RECORD
    own: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """How many accounts; `complete` is False where there are more than could be
    counted. `largest`: the most on one host, if that is known. `unanswered` hosts said
    nothing."""

    accounts: int
    complete: bool = True
    largest: int | None = None
    unanswered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a scope will take. `slowest` names what takes the hours."""

    counted: Counted
    basis: Basis
    records: int
    disk_bytes: int
    hours: float
    slowest: str
    over_cap: bool


def read_basis(conn: psycopg.Connection[Any]) -> Basis:
    """Our own averages, if the index is large enough to have any."""
    row = conn.execute(
        """
        SELECT (SELECT count(*) FROM repo WHERE state = 'synchronized'),
            (SELECT count(*) FROM record), pg_database_size(current_database())
        """
    ).fetchone()
    assert row is not None
    repos, records, size = row
    if repos < _OWN_REPOS or not records:
        return Basis()
    return Basis(records / repos, size / records, own=True)


def estimate(counted: Counted, basis: Basis, config: Config) -> Estimate:
    """Put counts and averages together. The slowest of three things takes the time:
    reading the records, asking the largest host, looking up identities."""
    accounts = counted.accounts
    records = accounts * basis.records_per_account
    on_one = accounts if counted.largest is None else counted.largest
    takes = {
        "reading records": records / RECORDS_PER_S,
        "requests to one host": on_one / config.host_requests_per_s,
        "identity look-ups": 0.0 if config.plc_mirror else accounts / LOOKUPS_PER_S,
    }
    slowest = max(takes, key=lambda name: takes[name])
    return Estimate(
        counted,
        basis,
        round(records),
        round(records * basis.bytes_per_record),
        takes[slowest] / 3_600.0,
        slowest,
        over_cap=0 < config.account_cap < accounts,
    )


def with_added(conn: psycopg.Connection[Any], config: Config) -> Config:
    """The settings, with the hosts and relays that `bigworld hosts add` has added."""
    named: dict[bool, list[str]] = {False: [*config.hosts], True: [*config.relays]}
    for host in load_hosts(conn).values():
        texts = named[host.relay]
        known = {parse_host(text, dev=config.dev_network).name for text in texts}
        if host.trusted and host.state != HOST_BANNED and host.hostname not in known:
            texts.append(host.url)
    return config.model_copy(
        update={"hosts": tuple(named[False]), "relays": tuple(named[True])}
    )


async def count_accounts(
    scope: Scope, config: Config, fetcher: Fetcher, resolver: IdentityResolver
) -> Counted:
    """Ask the hosts how many accounts a scope has."""
    if scope.kind is ScopeKind.DIDS:
        return Counted(len(scope.seeds))
    if scope.kind is ScopeKind.FOLLOWS:
        return await _count_follows(scope.seeds, fetcher, resolver)
    if scope.kind is ScopeKind.COLLECTION:
        return await _count_holders(scope.collections, config, fetcher)
    return await _count_network(config, fetcher)


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


async def _count_holders(
    collections: Sequence[str], config: Config, fetcher: Fetcher
) -> Counted:
    found: set[str] = set()
    complete, silent = True, _nobody(config)
    for host in config.relays or config.hosts:
        try:
            for nsid in collections:
                pages = _Pages(fetcher, host, LIST_REPOS_BY_COLLECTION, "repos")
                async for repo in pages.read(collection=nsid, limit=1_000):
                    found.add(str(repo.get("did")))
                complete &= pages.complete
        except (NetworkError, XrpcError):
            silent.append(host)
    return Counted(len(found), complete and not silent, unanswered=tuple(silent))


async def _count_network(config: Config, fetcher: Fetcher) -> Counted:
    hosts: dict[str, int] = {}
    complete, silent = True, _nobody(config)
    for relay in config.relays:
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
    for url in config.hosts:
        try:
            pages = _Pages(fetcher, url, LIST_REPOS, "repos")
            listed = len([repo async for repo in pages.read(limit=1_000)])
            # A relay may have counted it too.
            name = parse_host(url, dev=config.dev_network).name
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


def _nobody(config: Config) -> list[str]:
    """Nothing counted is not nothing there."""
    if config.relays or config.hosts:
        return []
    return ["no BIGWORLD_RELAYS and no BIGWORLD_HOSTS to ask"]


class _Pages:
    """The entries of a listing, up to 100 pages of it; then `complete` tells whether
    that was all."""

    def __init__(self, fetcher: Fetcher, host: str, nsid: str, name: str) -> None:
        self.complete = True
        self._client = XrpcClient(fetcher, host)
        self._nsid = nsid
        self._name = name

    async def read(self, **params: Any) -> Any:
        cursor: str | None = None
        for _ in range(_PAGES):
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
