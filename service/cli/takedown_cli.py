"""`bigworld takedown …`: accounts that this index does not show."""

from __future__ import annotations

from typing import Annotated

import typer

from service.runtime.config import Config

app = typer.Typer(
    help="Accounts that this index does not show: add, undo, list.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Account = Annotated[str, typer.Argument(help="The account, by DID or handle.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _read() -> Config:
    from service.cli.running import read_beside
    from service.runtime import logs

    config = read_beside()
    logs.configure(form=config.log_format, level="warning")
    return config


@app.command()
def add(
    account: Account,
    reason: Annotated[
        str, typer.Option("--reason", help="The reason, for `takedown list`.")
    ],
) -> None:
    """Hide an account from every answer, search and stream; its data stay."""
    from service.cli.verbs import takedown

    typer.echo(takedown.add(_read(), account, reason))


@app.command()
def undo(account: Account) -> None:
    """Show an account again, with all that it wrote meanwhile."""
    from service.cli.verbs import takedown

    typer.echo(takedown.undo(_read(), account))


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the accounts that are taken down, with the reasons."""
    from service.cli.verbs import takedown

    takedown.show_all(_read(), as_json=as_json)
