"""`bigworld lexicon …`: lexicons of records that the code does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from crawler.lexicon_lookup import MAX_FILES, queue_lookup, store_file
from indexer.collections.field_plan import describe_plan, plan_from_json
from protocol.errors import ProtocolError
from protocol.syntax import is_nsid
from service.cli.groups import AsJson, Limit, make_group, read_config
from service.cli.table import print_rows
from service.operator_errors import ConfigError
from service.runtime.databases import INDEX, open_existing
from storage.lexicons import fetch_lexicons, fetch_plans, list_lexicons
from storage.postgres.pool import open_pool

app = make_group(
    "lexicon", "`bigworld lexicon` lists those that are known.", bare="list"
)
_MAX_LISTED: Final = 1_000


@app.command("list")
def list_known(limit: Limit = _MAX_LISTED, as_json: AsJson = False) -> None:
    """List the lexicons that were read from a folder or found by DNS."""
    with (
        open_existing(read_config(), INDEX) as url,
        open_pool(url, max=1) as pool,
        pool.connection() as conn,
    ):
        rows = [
            {"nsid": item.nsid, "source": item.source, "error": item.error}
            for item in list_lexicons(conn, limit=limit)
        ]
    print_rows(rows, ("nsid", "source", "error"), as_json=as_json)


@app.command()
def show(
    nsid: Annotated[str, typer.Argument(help="The NSID of the lexicon.")],
    as_json: AsJson = False,
) -> None:
    """Show the roles of the fields that a lexicon gives to search."""
    with (
        open_existing(read_config(), INDEX) as url,
        open_pool(url, max=1) as pool,
        pool.connection() as conn,
    ):
        held = fetch_lexicons(conn, [nsid]).get(nsid)
        plan = fetch_plans(conn, [nsid]).get(nsid)
    if held is None or held.document is None:
        why = f": {held.error}" if held is not None and held.error else ""
        raise ConfigError(f"the lexicon {nsid} is not known{why}")
    if as_json:
        typer.echo(json.dumps({"nsid": nsid, "source": held.source, "plan": plan}))
        return
    roles = [] if plan is None else [*describe_plan(plan_from_json(plan))]
    rows = [{"field": field, "role": role} for field, role in roles]
    print_rows(rows, ("field", "role"), as_json=False)


@app.command()
def add(
    paths: Annotated[
        list[Path], typer.Argument(help="Lexicons (.json), or folders of them.")
    ],
) -> None:
    """Store lexicons; their records are searched by them within minutes."""
    files: list[Path] = []
    for path in paths:
        files += sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if len(files) > MAX_FILES:
        raise ConfigError(f"{len(files)} files are over the limit of {MAX_FILES}")
    with (
        open_existing(read_config(), INDEX) as url,
        open_pool(url, max=1) as pool,
    ):
        for file in files:
            try:
                typer.echo(store_file(pool, file))
            except (OSError, ProtocolError) as error:
                raise ConfigError(f"{file}: {error}") from error


@app.command()
def lookup(
    nsids: Annotated[list[str], typer.Argument(help="NSIDs of lexicons.")],
) -> None:
    """Queue the lookup of lexicons by DNS.

    The worker does it within a minute.
    """
    for nsid in nsids:
        if not is_nsid(nsid):
            raise ConfigError(f"{nsid!r} is not an NSID")
    with (
        open_existing(read_config(), INDEX) as url,
        open_pool(url, max=1) as pool,
        pool.connection() as conn,
    ):
        for nsid in nsids:
            queue_lookup(conn, nsid)
    typer.echo(f"{len(nsids)} queued")
