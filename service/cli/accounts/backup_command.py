"""`bigworld account backup …`: a copy of an account in the hands of its owner."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from service.account_backup import Backup, back_up, check_backup
from service.cli.account_names import find_account
from service.cli.groups import Account, AsJson, DefaultGroup, read_config
from service.cli.progress import Report
from service.operator_errors import ServiceError

app: Final = typer.Typer(
    cls=type("Group", (DefaultGroup,), {"free": "save"}),
    help="Keep a verified copy of an account.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
_MAX_PAUSE_S: Final = 3_600.0


@app.command()
def save(
    account: Account,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The folder.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until Ctrl-C, and look again.")
    ] = False,
    every: Annotated[
        int, typer.Option(min=10, help="Seconds between two looks with --follow.")
    ] = 60,
    max_blob_mb: Annotated[
        int, typer.Option(min=0, help="Space for all blobs in megabytes.")
    ] = 10_000,
    as_json: AsJson = False,
) -> None:
    """Copy repo, blobs and DID log into a folder, or bring the copy up to date."""
    config = read_config()
    did = find_account(config, account)
    pause = float(every)
    while True:
        try:
            with Report(Console(stderr=True)) as report:
                state = back_up(config, did, to, max_blob_mb, report.count)
            pause = float(every)
            _print(state, to, as_json=as_json)
        except ServiceError as error:
            if not follow:
                raise
            # A server that is away for a while must not end the copying.
            typer.echo(f"bigworld: {error}; trying again in {pause:.0f} s", err=True)
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_S)
            continue
        if not follow:
            return
        with suppress(KeyboardInterrupt):
            time.sleep(pause)
            continue
        return


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="The folder of the backup.")],
    as_json: AsJson = False,
) -> None:
    """Prove a backup without the network; exit 1 if a file is wrong or missing."""
    checked = check_backup(folder)
    if as_json:
        typer.echo(json.dumps(asdict(checked)))
    else:
        typer.echo(
            f"{checked.state.did}: {checked.records} records and {checked.blobs} blobs,"
            f" revision {checked.state.rev} of {checked.state.saved_at}"
        )
        for fault in checked.faults:
            typer.echo(f"  {fault}")
    if checked.faults:
        raise typer.Exit(1)


def _print(state: Backup, folder: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(state)))
        return
    typer.echo(
        f"{folder}: {state.records} records and {state.blobs - len(state.missing)}"
        f" of {state.blobs} blobs at revision {state.rev}"
    )
    for cid in state.missing[:20]:
        typer.echo(f"  not copied: {cid}", err=True)
