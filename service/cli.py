"""The command line. Each verb is thin and imports its room when it runs."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from service.config import Config
from service.errors import ConfigError, ServiceError

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    name="bigworld",
    help="An open big-world indexer for the AT Protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _start(**flags: Any) -> Config:
    """Read the settings and set up logging, as every long-running verb does."""
    from service import logs

    config = Config.read(**flags)
    logs.configure(form=config.log_format, level=config.log_level)
    return config


@app.command()
def plc() -> None:
    """Run the identity directory, on the port after the provider's."""
    from service.verbs import plc as verb

    verb.run(_start())


class Letter(StrEnum):
    """The two embedded Personal Data Servers."""

    A = "a"
    B = "b"


@app.command()
def pds(
    letter: Annotated[Letter, typer.Argument(help="Which of the two.")] = Letter.A,
) -> None:
    """Run a Personal Data Server (a: second port after the provider's, b: third)."""
    from service.verbs import pds as verb

    verb.run(_start(), letter.value)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look at what Bigworld needs on this machine; exits 1 when something lacks."""
    from service.doctor import examine

    findings = examine(Config.read())
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        table = Table(box=None)
        for title in ("", "what", "found", "advice"):
            table.add_column(title, overflow="fold")
        for finding in findings:
            mark = "[green]ok[/]" if finding.well else "[red]no[/]"
            advice = "" if finding.well else finding.advice
            table.add_row(mark, finding.subject, finding.detail, advice)
        Console().print(table)
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


@app.command()
def check() -> None:
    """Lint, format, types, import layers, schema equal to migrations."""
    from service.check import run_checks

    if not run_checks(Console()):
        raise typer.Exit(1)


@app.command("test", context_settings=PASS_THROUGH)
def run_tests(
    context: typer.Context,
    long: Annotated[
        bool, typer.Option("--long", help="The long fault and load plans too.")
    ] = False,
) -> None:
    """Run the tests; other arguments go to pytest."""
    root = Path(__file__).resolve().parent.parent
    arguments = [sys.executable, "-m", "pytest"]
    if not any(arg == "--pdb" or arg.startswith("-n") for arg in context.args):
        arguments += ["-n", "2", "--dist", "loadfile"]
    if long:
        arguments.append("--long")
    os.chdir(root)
    sys.stdout.flush()
    os.execv(sys.executable, [*arguments, *context.args])  # noqa: S606


def main() -> None:
    """Run a verb; an error that we know is one line and an exit code, no traceback."""
    try:
        app(prog_name="bigworld")
    except ConfigError as error:
        print(f"bigworld: {error}", file=sys.stderr)
        sys.exit(2)
    except ServiceError as error:
        print(f"bigworld: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
