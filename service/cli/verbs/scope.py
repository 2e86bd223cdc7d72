"""`bigworld scope`: what is indexed, and what another choice would take."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from rich.console import Console

from indexer.transaction import retry_conflicts
from protocol.errors import InvalidSyntaxError
from protocol.syntax import parse_nsid
from service.cli.account_names import find_accounts
from service.cli.progress import Report
from service.operator_errors import ConfigError, NoDatabaseError
from service.outgoing import make_fetcher, make_resolver
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing
from service.scope_estimate import (
    Basis,
    Counted,
    Estimate,
    count_accounts,
    read_basis,
    with_added,
)
from service.scope_estimate import estimate as put_together
from service.scope_report import as_fields, describe, in_hours
from storage.postgres.pool import connect
from storage.repos.scope_rows import (
    Scope,
    ScopeKind,
    UnkeptError,
    check_keep,
    load_progress,
    load_scope,
    set_scope,
)

_WATCH_S = 2.0


def parse(
    config: Config, kind: ScopeKind, names: Sequence[str], keep: Sequence[str] = ()
) -> Scope:
    """A scope from the command line, accounts by DID or handle. Raises ServiceError."""
    if kind is ScopeKind.NETWORK and names:
        raise ConfigError("the network takes no names")
    if kind is not ScopeKind.NETWORK and not names:
        raise ConfigError(f"{kind} needs names")
    try:
        kept = tuple(map(parse_nsid, keep))
        if kind is ScopeKind.COLLECTION:
            scope = Scope(kind, collections=tuple(map(parse_nsid, names)), keep=kept)
        else:
            scope = Scope(kind, seeds=tuple(find_accounts(config, names)), keep=kept)
        check_keep(scope.kind, scope.collections, scope.keep)
    except (InvalidSyntaxError, UnkeptError) as error:
        raise ConfigError(str(error)) from error
    return scope


def change(config: Config, scope: Scope) -> None:
    """Set the scope; the running crawl sees it within a second."""
    with open_existing(config, INDEX, start=True) as url:
        _set(url, scope)
    print(f"{scope.kind} it is; the crawl follows, and `bigworld scope` tells how far")


@retry_conflicts
def _set(url: str, scope: Scope) -> None:
    with connect(url) as conn:
        set_scope(
            conn,
            scope.kind,
            seeds=scope.seeds,
            collections=scope.collections,
            keep=scope.keep,
        )
        conn.commit()


def show(config: Config, *, watch: bool, as_json: bool) -> None:
    """Print the scope and how far it is; with `watch`, until it is there."""
    with open_existing(config, INDEX) as url, connect(url) as conn:
        conn.autocommit = True
        scope, progress = load_scope(conn), load_progress(conn)
        if as_json:
            print(json.dumps(as_fields(scope, progress)))
            return
        console = Console()
        for line in describe(scope, progress):
            console.print(line, highlight=False)
        if not watch:
            return
        with Report(console) as report:
            while progress.done < progress.total or progress.outside:
                report.count("repos", progress.done, progress.total)
                time.sleep(_WATCH_S)
                progress = load_progress(conn)
            report.count("repos", progress.done, progress.total)


def estimate(config: Config, scope: Scope, *, as_json: bool) -> None:
    """Print what a scope will take."""
    basis = Basis()
    # An estimate is asked for before there is an index, too.
    with (
        suppress(NoDatabaseError),
        open_existing(config, INDEX) as url,
        connect(url) as conn,
    ):
        basis = read_basis(conn)
        config = with_added(conn, config)
    counted = asyncio.run(_count(scope, config))
    found = put_together(counted, basis, config)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    for line in explain(found):
        print(line)
    if scope.keep:
        print(f"at most: of each repo only {', '.join(scope.keep)}")


async def _count(scope: Scope, config: Config) -> Counted:
    async with make_fetcher(config) as fetcher:
        resolver = make_resolver(config, fetcher)
        return await count_accounts(scope, config, fetcher, resolver)


def explain(found: Estimate) -> list[str]:
    """An estimate in words, with what it rests on."""
    counted, basis = found.counted, found.basis
    least = "" if counted.complete else "at least "
    lines = [
        f"accounts: {least}{counted.accounts:,}",
        f"records: {least}{found.records:,} ({_source(basis)}: "
        f"{basis.records_per_account:.0f} an account)",
        f"disk: {least}{_size(found.disk_bytes)} "
        f"({basis.bytes_per_record:.0f} bytes a record)",
        f"time: {least}{in_hours(found.hours)} (for {found.slowest})",
    ]
    if counted.unanswered:
        missed = ", ".join(counted.unanswered)
        lines.append(f"not counted, no answer or no such listing: {missed}")
    if found.over_cap:
        lines.append("more than BIGWORLD_ACCOUNT_CAP lets in: raise it first")
    return lines


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _source(basis: Basis) -> str:
    return "measured on this index" if basis.own else "from reports and benchmarks"
