"""`bigworld hosts …`: what an operator decides about single hosts."""

from __future__ import annotations

from typing import Annotated

import typer

from service.runtime.config import Config

app = typer.Typer(
    help="The hosts we know: list, add, remove, ban, limit, crawl again.\n\n"
    "Without a command they are listed, the busiest first.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="The host's name, or its URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _read() -> Config:
    from service.cli.running import read_beside
    from service.runtime import logs

    config = read_beside()
    logs.configure(form=config.log_format, level="warning")
    return config


@app.callback()
def list_hosts(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 200,
    as_json: AsJson = False,
) -> None:
    """List the hosts we know, the busiest first: state, lag, faults."""
    if context.invoked_subcommand is None:
        from service.cli.verbs import hosts

        hosts.show_hosts(_read(), limit=limit, as_json=as_json)


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Tell everything about one host."""
    from service.cli.verbs import hosts

    hosts.show_host(_read(), name, as_json=as_json)


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="The PDS or relay, by its URL.")],
    relay: Annotated[
        bool, typer.Option("--relay", help="It forwards other hosts' commits.")
    ] = False,
) -> None:
    """Crawl and follow a host from now on, and trust it as our own."""
    from service.cli.verbs import hosts

    typer.echo(hosts.add_host(_read(), url, relay=relay))


@app.command()
def remove(name: Name) -> None:
    """Forget a host; its accounts stay as they are."""
    from service.cli.verbs import hosts

    typer.echo(hosts.remove_host(_read(), name))


@app.command()
def ban(
    name: Name,
    why: Annotated[str, typer.Option(help="The reason, for the host's page.")] = "",
) -> None:
    """Never contact a host again; what we have of it stays."""
    from service.cli.verbs import hosts

    typer.echo(hosts.ban_host(_read(), name, why))


@app.command()
def unban(name: Name) -> None:
    """Lift a ban, or end a throttling; the host counts as new then."""
    from service.cli.verbs import hosts

    typer.echo(hosts.unban_host(_read(), name))


@app.command()
def crawl(name: Name) -> None:
    """Compare everything on a host with what we have, now."""
    from service.cli.verbs import hosts

    typer.echo(hosts.crawl_host(_read(), name))


@app.command()
def limit(
    name: Name,
    max_accounts: Annotated[
        int | None, typer.Option(min=0, help="Accounts in all.")
    ] = None,
    accounts_per_day: Annotated[
        int | None, typer.Option(min=0, help="New accounts a day.")
    ] = None,
    requests_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Requests a second sent to it.")
    ] = None,
    events_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Events a second read from it.")
    ] = None,
    bytes_per_s: Annotated[
        float | None, typer.Option(min=1.0, help="Bytes a second read from it.")
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="First forget all limits of its own.")
    ] = False,
) -> None:
    """Give a host limits of its own.

    Its stream keeps to them from the next time on that it is opened.
    """
    from service.cli.verbs import hosts

    values = {
        "max_accounts": max_accounts,
        "accounts_per_day": accounts_per_day,
        "requests_per_s": requests_per_s,
        "events_per_s": events_per_s,
        "bytes_per_s": bytes_per_s,
    }
    typer.echo(hosts.limit_host(_read(), name, values, reset=reset))
