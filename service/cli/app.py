"""The command line. Each verb is thin and imports its room when it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.failures import describe_failure
from service.cli.hosts_cli import app as hosts_app
from service.cli.scope_cli import app as scope_app
from service.cli.takedown_cli import app as takedown_app
from service.cli.version import VERSION
from service.operator_errors import ConfigError
from service.runtime.config import Config
from service.runtime.home import make_home

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

app.add_typer(hosts_app, name="hosts")
app.add_typer(scope_app, name="scope")
app.add_typer(takedown_app, name="takedown")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _start(**flags: Any) -> Config:
    """Read the settings and set up logging, as every long-running verb does."""
    from service.runtime import logs

    config = Config.read(**flags)
    logs.configure(form=config.log_format, level=config.log_level)
    make_home(config.home)
    return config


def _quiet() -> Config:
    """Read the settings for a verb that prints an answer and ends."""
    from service.cli.running import read_beside
    from service.runtime import logs

    config = read_beside()
    logs.configure(form=config.log_format, level="warning")
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
    """An open big-world indexer for the AT Protocol."""


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
            metavar="ACCOUNT", help="Index one account, a DID or handle (repeatable)."
        ),
    ] = None,
    port_base: Annotated[
        int | None, typer.Option(help="First of the four ports.")
    ] = None,
) -> None:
    """Run everything: the demo network, or the network you point at."""
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
            relays=config.relays,
            hosts=config.hosts,
            dids=dids,
            port_base=port_base,
        )
    # Its own progress is what people look at; the children log to files.
    logs.configure(form=config.log_format, level="warning")
    run(config)


@app.command()
def serve() -> None:
    """Run the provider: search, feeds, views and pages."""
    from service.cli.verbs import serve as verb

    verb.run(_start())


@app.command()
def crawl() -> None:
    """Run the live ingest: streams, proof, index."""
    from service.cli.verbs import crawl as verb

    verb.run(_start())


@app.command()
def worker(
    beat: Annotated[
        bool, typer.Option("--beat", help="Hand out the scheduled tasks too.")
    ] = False,
) -> None:
    """Run the Celery worker."""
    from service.cli.verbs import worker as verb

    raise typer.Exit(verb.run(_start(), beat=beat))


@app.command()
def beat() -> None:
    """Hand out the scheduled tasks; run exactly one of these."""
    from service.cli.verbs import worker as verb

    verb.run_schedule(_start())


@app.command()
def plc(
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror",
            help="Keep a proven copy of the configured directory, and serve that.",
        ),
    ] = False,
) -> None:
    """Run the identity directory, on the port after the provider's."""
    from service.cli.verbs import plc as verb

    if mirror:
        verb.run_mirror(_start())
    else:
        verb.run(_start())


class Letter(StrEnum):
    """The two Personal Data Servers."""

    A = "a"
    B = "b"


@app.command()
def pds(
    letter: Annotated[Letter, typer.Argument(help="Which of the two.")] = Letter.A,
) -> None:
    """Run a small Personal Data Server: no mail, app passwords or OAuth.

    It listens on the second port after the provider's (a) or the third (b). Outside a
    development network only (a) runs, with BIGWORLD_PDS_PUBLIC_URL and
    BIGWORLD_PDS_HANDLE_DOMAINS.
    """
    from service.cli.verbs import pds as verb

    verb.run(_start(), letter.value)


class RepoState(StrEnum):
    """What a repo can be."""

    DESYNCHRONIZED = "desynchronized"
    RESYNCING = "resyncing"
    SYNCHRONIZED = "synchronized"


@app.command()
def repos(
    account: Annotated[
        str | None, typer.Argument(help="Only this account, by DID or handle.")
    ] = None,
    state: Annotated[
        RepoState | None, typer.Option(help="Only repos in this state.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    resync: Annotated[
        bool, typer.Option("--resync", help="Fetch the account's repo again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List repos, those that wait or fail first."""
    from service.cli.account_names import find_account
    from service.cli.verbs import query as verb

    config = _quiet()
    if resync and account is None:
        raise typer.BadParameter("--resync needs an account")
    did = None if account is None else find_account(config, account)
    if resync and did is not None:
        verb.resync_repo(config, did)
    verb.show_repos(config, state=state, did=did, limit=limit, as_json=as_json)


@app.command()
def search(
    query: Annotated[
        str, typer.Argument(help='As in the search box: from:, lang:, "…".')
    ],
    actors: Annotated[
        bool, typer.Option("--actors", help="Search accounts, not posts.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Search through the running provider."""
    from service.cli.verbs import query as verb

    verb.search(_quiet(), query, actors=actors, limit=limit, as_json=as_json)


@app.command()
def feeds(
    name: Annotated[str | None, typer.Argument(help="Read this feed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the feeds we serve, or read one."""
    from service.cli.verbs import query as verb

    verb.show_feeds(_quiet(), name=name, limit=limit, as_json=as_json)


@app.command()
def audit(
    accounts: Annotated[
        list[str] | None,
        typer.Argument(help="Only these accounts, by DID or handle."),
    ] = None,
    counts: Annotated[
        bool, typer.Option("--counts", help="Count likes, followers … anew too.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Fetch wrong repos again, write right counts."),
    ] = False,
    ask_hosts: Annotated[
        bool,
        typer.Option("--hosts", help="Compare with each host's latest commit too."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hold every repo, rebuilt from our rows, against what was signed.

    Exits 1 when anything differs.
    """
    from service.cli.account_names import find_accounts
    from service.cli.verbs import audit

    config = _quiet()
    wanted = find_accounts(config, accounts or ())
    if not audit.audit(
        config,
        wanted,
        counts=counts,
        repair=repair,
        as_json=as_json,
        ask_hosts=ask_hosts,
    ):
        raise typer.Exit(1)


class Copy(StrEnum):
    """What is only a copy of the rows."""

    SEARCH = "search"
    COUNTS = "counts"


@app.command()
def rebuild(
    what: Annotated[Copy, typer.Argument(help="The search index, or the counts.")],
) -> None:
    """Make the search index or the counts anew, while all runs on."""
    from service.cli.verbs import audit

    if what is Copy.SEARCH:
        typer.echo(f"{audit.rebuild_search(_quiet())} entries written")
    else:
        for table, wrong in audit.rebuild_counts(_quiet()).items():
            typer.echo(f"{table}: {wrong} rows put right")


@app.command()
def export(
    account: Annotated[str, typer.Argument(help="The account, by DID or handle.")],
    path: Annotated[Path, typer.Argument(help="The CAR file to write.")],
) -> None:
    """Write an account's whole repo, as it was signed, into a CAR file."""
    from service.cli.account_names import find_account
    from service.cli.verbs import backup

    config = _quiet()
    size = backup.export_repo(config, find_account(config, account), path)
    typer.echo(f"{path}: {size} bytes")


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder; it will hold keys.")],
    as_json: AsJson = False,
) -> None:
    """Save every database and the secrets, while everything runs on."""
    from service.cli.verbs import backup

    manifest = backup.backup(_quiet(), folder)
    if as_json:
        typer.echo(json.dumps(manifest))
    else:
        for name, size in manifest["databases"].items():
            typer.echo(f"{name}: {size} bytes")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `backup` wrote.")],
) -> None:
    """Put a backup into an empty home; never overwrites anything."""
    from service.cli.verbs import backup

    for name in backup.restore(_quiet(), folder):
        typer.echo(f"{name}: restored")


class BenchName(StrEnum):
    """What can be measured."""

    VERIFY = "verify"
    IMPORT = "import"
    INGEST = "ingest"
    BACKFILL = "backfill"
    SERVE = "serve"


@app.command()
def bench(
    name: Annotated[
        BenchName | None, typer.Argument(help="Only this one; else all.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Little data, to see that it works: no figures."),
    ] = False,
    stored: Annotated[
        int,
        typer.Option(
            min=0, help="Records that ingest and backfill find there already."
        ),
    ] = 0,
    shards: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that ingest.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: proof, import, ingest, backfill, requests.

    Everything happens in temporary folders, with a PostgreSQL of its own.
    """
    from bench import verb

    names = [name] if name is not None else list(BenchName)
    verb.run(
        [one.value for one in names],
        quick=quick,
        as_json=as_json,
        stored=stored,
        shards=shards,
    )


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what lacks on this machine, and what is wrong with the crawl.

    Exits 1 when there is anything.
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
    from rich.console import Console

    from service.cli.check import run_checks

    if not run_checks(Console()):
        raise typer.Exit(1)


@app.command("test", context_settings=PASS_THROUGH)
def run_tests(
    context: typer.Context,
    long: Annotated[
        bool, typer.Option("--long", help="The long fault and load plans too.")
    ] = False,
    mutants: Annotated[
        bool,
        typer.Option(
            "--mutants", help="Plant bugs in a copy; the tests must see them."
        ),
    ] = False,
) -> None:
    """Run the tests; other arguments go to pytest."""
    root = Path(__file__).resolve().parents[2]
    arguments = [sys.executable, "-m", "pytest"]
    if not any(arg == "--pdb" or arg.startswith("-n") for arg in context.args):
        # Files go to whoever is free, in the order that tests/conftest.py gives them.
        arguments += ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    if long:
        arguments.append("--long")
    if mutants:
        arguments = [sys.executable, "tests/mutants/mutant_run.py"]
    os.chdir(root)
    sys.stdout.flush()
    if mutants or context.args:
        os.execv(sys.executable, [*arguments, *context.args])  # noqa: S606
    code = subprocess.run(arguments, check=False).returncode
    if code == 1:
        # What only fails beside others is named above, and is no fault of the code.
        print("\nWhat failed runs once more, by itself:", flush=True)
        arguments = [sys.executable, "-m", "pytest", "--last-failed"]
        arguments += ["--long"] if long else []
        code = subprocess.run(arguments, check=False).returncode
    sys.exit(code)


def main() -> None:
    """Run a verb; an expected failure is one line and an exit code, no traceback."""
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
