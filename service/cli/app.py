"""The command line. Each command imports its packages when it runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.groups import AsJson, RootGroup
from service.cli.version import VERSION
from service.operator_errors import ConfigError
from service.runtime.config import Config
from service.runtime.failures import describe_failure
from service.runtime.home import make_home

app = typer.Typer(
    cls=RootGroup,
    name="bigworld",
    help="An open big-world indexer for the AT Protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _start(**flags: Any) -> Config:
    """Read the settings and set up the logs of a long-running command."""
    from service.runtime import logs

    config = Config.read(**flags)
    logs.configure(form=config.log_format, level=config.log_level)
    make_home(config.home)
    return config


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bigworld {VERSION}")
        raise typer.Exit


@app.callback()
def bigworld(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Run a big-world indexer for the AT Protocol."""


@app.command()
def up(
    relay: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Follow a relay of the real network (repeatable)."
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Crawl and follow a PDS (repeatable)."),
    ] = None,
    did: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACCOUNT", help="Index one account, by DID or handle (repeatable)."
        ),
    ] = None,
    port_base: Annotated[
        int | None, typer.Option(help="First of the four ports.")
    ] = None,
) -> None:
    """Run everything: the demo network, or a part of the real one."""
    from service.runtime import logs
    from service.up import run

    config = Config.read(
        relays=tuple(relay) if relay else None,
        hosts=tuple(host) if host else None,
        port_base=port_base,
    )
    if did:
        from service.cli.account_names import find_accounts

        dids = tuple(find_accounts(config, did))
        config = Config.read(
            relays=config.relays, hosts=config.hosts, dids=dids, port_base=port_base
        )
    # The terminal shows progress; the children log to files.
    logs.configure(form=config.log_format, level="warning")
    run(config)


@app.command()
def serve() -> None:
    """Run the provider: search, feeds, views and pages."""
    from service.cli.processes import serve as process

    process.run(_start())


@app.command()
def crawl() -> None:
    """Run the live ingest: streams, proof, index."""
    from service.cli.processes import crawl as process

    process.run(_start())


@app.command()
def worker(
    beat: Annotated[
        bool, typer.Option("--beat", help="Schedule the periodic tasks too.")
    ] = False,
) -> None:
    """Run the Celery worker."""
    from service.cli.processes import worker as process

    raise typer.Exit(process.run(_start(), beat=beat))


@app.command()
def beat() -> None:
    """Schedule the periodic tasks; run exactly one of these."""
    from service.cli.processes import worker as process

    process.run_schedule(_start())


@app.command()
def plc(
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror", help="Serve a verified copy of the configured directory."
        ),
    ] = False,
) -> None:
    """Run the PLC directory, on the port after the provider's."""
    from service.cli.processes import plc as process

    if mirror:
        process.run_mirror(_start())
    else:
        process.run(_start())


class Letter(StrEnum):
    """Names of the two Personal Data Servers."""

    A = "a"
    B = "b"


@app.command()
def pds(
    letter: Annotated[Letter, typer.Argument(help="The PDS to run.")] = Letter.A,
) -> None:
    """Run a small PDS: no mail, app passwords or OAuth.

    It listens on the second port after the provider's (a) or the third (b). Outside a
    development network only (a) runs, with BIGWORLD_PDS_PUBLIC_URL and
    BIGWORLD_PDS_HANDLE_DOMAINS.
    """
    from service.cli.processes import pds as process

    process.run(_start(), letter.value)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine and the running services.

    Exits 1 when a check fails.
    """
    from rich.console import Console
    from rich.table import Table

    from service.cli.running import read_beside
    from service.monitoring.doctor import examine

    findings = examine(read_beside())
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        table = Table(box=None)
        for title in ("", "check", "result", "advice"):
            table.add_column(title, overflow="fold")
        for finding in findings:
            mark = "[green]ok[/]" if finding.well else "[red]no[/]"
            advice = "" if finding.well else finding.advice
            table.add_row(mark, finding.subject, finding.detail, advice)
        Console().print(table)
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


class Form(StrEnum):
    """Form of rows."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


AsForm = Annotated[Form, typer.Option("--format", help="Form of the output.")]


@app.command()
def sql(
    statement: Annotated[
        str | None,
        typer.Argument(help="One statement; without one they are read from stdin."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Read the statement from a file.")
    ] = None,
    form: AsForm = Form.TABLE,
    rows: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Maximum number of rows.")
    ] = 10_000,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3_600, help="Time limit of a statement.")
    ] = 30,
) -> None:
    """Query the index with SQL, read-only.

    `bigworld sql '\\d'` lists the views. Statements that are typed in end with `;`.
    """
    from analytics.questions import Bounds
    from service.cli.analytics.sql_command import run_sql
    from service.cli.groups import read_config

    run_sql(read_config(), statement, file, form.value, Bounds(rows, seconds))


@app.command()
def stats(
    table: Annotated[
        str | None,
        typer.Argument(
            help="hours, days, active, languages, hosts or topics; default: all."
        ),
    ] = None,
    form: AsForm = Form.TABLE,
) -> None:
    """Show the activity by hour and day, languages, hosts and topics."""
    from service.cli.analytics.activity_stats import show_stats
    from service.cli.groups import read_config

    show_stats(read_config(), table, form.value)


@app.command()
def mcp() -> None:
    """Serve read-only tools over MCP, the Model Context Protocol."""
    from service.cli.analytics.mcp_command import run_mcp
    from service.cli.groups import read_config

    run_mcp(read_config())


@app.command()
def verify(
    uri: Annotated[str, typer.Argument(metavar="AT-URI", help="The record.")],
    server: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="The server of the proof; by default the running provider.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that an account signed a record.

    The server of the proof need not be trusted. Exits 1 for a record that the account's
    signed repo does not hold.
    """
    from service.cli.groups import read_config
    from service.cli.verify import verify as command

    command(read_config(), uri, server, as_json=as_json)


@app.command()
def check() -> None:
    """Lint, format, types, import layers, schema equal to migrations."""
    from rich.console import Console

    from service.cli.check import run_checks

    if not run_checks(Console()):
        raise typer.Exit(1)


@app.command(
    "test", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def run_tests(
    context: typer.Context,
    long: Annotated[
        bool, typer.Option("--long", help="Run the long fault and load tests too.")
    ] = False,
    mutants: Annotated[
        bool,
        typer.Option("--mutants", help="Plant bugs in a copy; the tests must fail."),
    ] = False,
) -> None:
    """Run the tests; other arguments go to pytest."""
    from service.cli.test_run import run_tests

    raise typer.Exit(run_tests(context.args, long=long, mutants=mutants))


def main() -> None:
    """Run a command; print expected failures as one line, without a traceback."""
    try:
        app(prog_name="bigworld")
    except Exception as error:
        failure = describe_failure(error)
        if failure is None:
            raise
        print(f"bigworld: {failure}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main()
