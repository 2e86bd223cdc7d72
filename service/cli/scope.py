"""`bigworld scope …`: the accounts that are indexed, and the cost of other choices."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console

from crawler.scope.estimate import (
    Basis,
    Counted,
    Sources,
    count_accounts,
    read_basis,
    with_added,
)
from crawler.scope.estimate import estimate as make_estimate
from crawler.scope.report import as_fields, describe, explain
from protocol.errors import InvalidSyntaxError
from protocol.syntax import parse_nsid
from service.cli.account_names import find_accounts
from service.cli.groups import AsJson, make_group, read_config
from service.cli.progress import Report
from service.operator_errors import ConfigError, NoDatabaseError
from service.outgoing import make_fetcher, make_resolver
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing
from storage.postgres.pool import connect
from storage.postgres.transaction import retry_conflicts
from storage.repos.scope_progress import load_progress
from storage.repos.scope_rows import (
    Scope,
    ScopeKind,
    UnkeptError,
    check_keep,
    load_scope,
    set_scope,
)

_WATCH_S: Final = 2.0

Kind = Annotated[ScopeKind, typer.Argument(help="The kind of accounts.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(help="DIDs or handles for dids and follows, NSIDs for collection."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        help="Keep only this collection (NSID) of each repo; repeatable. "
        "Default: all collections.",
    ),
]

app = make_group(
    "scope", "`bigworld scope` shows the progress and the time left.", bare="show"
)


@app.command()
def show(
    watch: Annotated[
        bool, typer.Option("--watch", help="Show a bar until all is fetched.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is indexed, the progress, and the time left."""
    with open_existing(read_config(), INDEX) as url, connect(url) as conn:
        conn.autocommit = True
        scope, progress = load_scope(conn), load_progress(conn)
        if as_json:
            typer.echo(json.dumps(as_fields(scope, progress)))
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


@app.command("set")
def change(
    kind: Kind,
    names: Names = None,
    keep: Keep = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Skip the estimate and the question.")
    ] = False,
) -> None:
    """Widen or narrow what is indexed, while everything runs.

    The running crawl removes accounts and records that no longer belong to it.
    """
    config = read_config()
    wanted = parse(config, kind, names or (), keep or ())
    if not yes:
        _print_estimate(config, wanted, as_json=False)
        typer.confirm("Go on?", abort=True)
    with open_existing(config, INDEX, start=True) as url:
        _set(url, wanted)
    typer.echo(f"scope set to {kind}; `bigworld scope` shows the progress")


@app.command()
def estimate(
    kind: Kind, names: Names = None, keep: Keep = None, as_json: AsJson = False
) -> None:
    """Estimate accounts, disk and hours; nothing is changed."""
    config = read_config()
    wanted = parse(config, kind, names or (), keep or ())
    _print_estimate(config, wanted, as_json=as_json)


def parse(
    config: Config, kind: ScopeKind, names: Sequence[str], keep: Sequence[str] = ()
) -> Scope:
    """Parse a scope from the command line. Raises ServiceError."""
    if kind is ScopeKind.NETWORK and names:
        raise ConfigError("network takes no names")
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


def _print_estimate(config: Config, scope: Scope, *, as_json: bool) -> None:
    basis, sources = Basis(), _sources(config)
    # An estimate works before there is an index, too.
    with (
        suppress(NoDatabaseError),
        open_existing(config, INDEX) as url,
        connect(url) as conn,
    ):
        basis = read_basis(conn)
        sources = with_added(conn, sources)
    counted = asyncio.run(_count(scope, sources, config))
    found = make_estimate(counted, basis, sources)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    for line in explain(found):
        typer.echo(line)
    if scope.keep:
        typer.echo(f"upper bound: only {', '.join(scope.keep)} of each repo is kept")


def _sources(config: Config) -> Sources:
    return Sources(
        config.hosts,
        config.relays,
        dev=config.dev_network,
        requests_per_s=config.host_requests_per_s,
        is_mirrored=config.plc_mirror,
        account_cap=config.account_cap,
    )


async def _count(scope: Scope, sources: Sources, config: Config) -> Counted:
    async with make_fetcher(config) as fetcher:
        resolver = make_resolver(config, fetcher)
        return await count_accounts(scope, sources, fetcher, resolver)
