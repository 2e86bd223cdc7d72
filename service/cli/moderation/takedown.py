"""`bigworld takedown …`: accounts, records and blobs that this index does not show."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from service.cli.groups import AsJson, Limit, make_group, read_config
from service.cli.moderation.subjects import Subject, find_subject, operator_name
from service.cli.table import print_rows
from service.moderation import open_moderation
from service.operator_errors import ConfigError, ServiceError
from storage.private.decisions import load_decisions
from storage.private.takedowns import TooManyTakedownsError, load_takedowns

app = make_group("takedown")


@app.command()
def add(
    subject: Subject,
    reason: Annotated[
        str, typer.Option("--reason", help="The reason, for `takedown list`.")
    ],
) -> None:
    """Hide an account, a record or a blob; its data stay."""
    config = read_config()
    if not reason.strip():
        raise ConfigError("--reason is empty; `takedown list` shows it")
    found = find_subject(config, subject)
    with open_moderation(config) as moderation:
        try:
            before = moderation.take_down(
                found, operator=operator_name(), reason=reason.strip()
            )
        except TooManyTakedownsError as error:
            raise ServiceError(str(error)) from None
    if before is None:
        typer.echo(f"{found} is taken down; it is hidden from now on")
    else:
        typer.echo(f"{found} was taken down already ({before}); the reason is replaced")


@app.command()
def undo(
    subject: Subject,
    reason: Annotated[
        str, typer.Option("--reason", help="The reason, for `takedown log`.")
    ] = "",
) -> None:
    """Show an account, a record or a blob again."""
    config = read_config()
    found = find_subject(config, subject)
    with open_moderation(config) as moderation:
        before = moderation.undo(found, operator=operator_name(), reason=reason.strip())
    if before is None:
        raise ServiceError(f"{found} is not taken down; see `bigworld takedown list`")
    typer.echo(f"{found} is shown again; search follows within seconds")


@app.command("list")
def list_all(limit: Limit = 1_000, as_json: AsJson = False) -> None:
    """List takedowns with their reasons, newest first."""
    with (
        open_moderation(read_config()) as moderation,
        moderation.private.read() as conn,
    ):
        found = load_takedowns(conn, limit=limit, newest=True)
    rows = [asdict(takedown) | {"kind": takedown.kind} for takedown in found]
    print_rows(rows, ("kind", "subject", "reason", "taken_at"), as_json=as_json)


@app.command()
def log(limit: Limit = 100, as_json: AsJson = False) -> None:
    """List decisions: who, when and why, newest first."""
    with (
        open_moderation(read_config()) as moderation,
        moderation.private.read() as conn,
    ):
        rows = [asdict(decision) for decision in load_decisions(conn, limit=limit)]
    columns = ("number", "decided_at", "operator", "action", "subject", "reason")
    print_rows(rows, columns, as_json=as_json)
