"""`bigworld scope …`: which accounts are indexed."""

from __future__ import annotations

from typing import Annotated

import typer

from service.runtime.config import Config
from storage.repos.scope_rows import ScopeKind

app = typer.Typer(
    help="What is indexed: see it, change it, estimate what it takes.\n\n"
    "Without a command: how far it is, and how long still.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

Kind = Annotated[ScopeKind, typer.Argument(help="Which accounts.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(help="DIDs or handles for dids and follows, NSIDs for collection."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        help="Of each repo fetch and keep this collection (NSID) only; may be "
        "repeated. Without it all of it.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _read() -> Config:
    from service.cli.running import read_beside
    from service.runtime import logs

    config = read_beside()
    logs.configure(form=config.log_format, level="warning")
    return config


@app.callback()
def show(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show a bar until all is fetched.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what is indexed, how far it is, and when it will be there."""
    if context.invoked_subcommand is None:
        from service.cli.verbs import scope

        scope.show(_read(), watch=watch, as_json=as_json)


@app.command("set")
def change(
    kind: Kind,
    names: Names = None,
    keep: Keep = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not estimate and ask first.")
    ] = False,
) -> None:
    """Widen or narrow what is indexed, while everything runs on.

    Accounts and records that do not belong to it any more are removed by the running
    crawl.
    """
    from service.cli.verbs import scope

    config = _read()
    wanted = scope.parse(config, kind, names or (), keep or ())
    if not yes:
        scope.estimate(config, wanted, as_json=False)
        typer.confirm("Go on?", abort=True)
    scope.change(config, wanted)


@app.command()
def estimate(
    kind: Kind, names: Names = None, keep: Keep = None, as_json: AsJson = False
) -> None:
    """Estimate accounts, disk and hours; nothing is changed."""
    from service.cli.verbs import scope

    config = _read()
    wanted = scope.parse(config, kind, names or (), keep or ())
    scope.estimate(config, wanted, as_json=as_json)
