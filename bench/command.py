"""`bigworld bench`: run benchmarks and print their figures with their floors."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from bench.metric import Bench, Metric
from bench.report import to_line, to_table
from service.cli.groups import AsJson
from service.cli.progress import Report

app = typer.Typer(add_completion=False, rich_markup_mode=None)

# Modules whose name is not that of the benchmark.
_MODULES: Final = {
    "import": "imports",
    "relevance": "relevance.run",
    "search": "search.run",
    "matches": "search.matches",
    "feeds": "feeds.run",
    "export": "exports.run",
    "pds": "writes.pds",
}
# Options of the benchmarks.
_TAKES: Final = {
    "ingest": ("stored", "shards"),
    "backfill": ("stored",),
    "serve": ("posts",),
    "search": ("posts",),
    "relevance": ("page", "failures"),
    "feeds": ("readers", "likes"),
    "export": ("stored",),
    "pds": ("stored",),
}


class BenchName(StrEnum):
    """Names of the benchmarks."""

    VERIFY = "verify"
    IMPORT = "import"
    INGEST = "ingest"
    BACKFILL = "backfill"
    SERVE = "serve"
    SEARCH = "search"
    RELEVANCE = "relevance"
    MATCHES = "matches"
    FEEDS = "feeds"
    EXPORT = "export"
    PDS = "pds"


class _Silence:
    """A receiver that ignores progress."""

    def count(self, what: str, done: int, total: int) -> None:
        return


@app.command()
def bench(
    name: Annotated[
        BenchName | None, typer.Argument(help="The benchmark; default: all.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Use little data: checks that it works, no figures."
        ),
    ] = False,
    stored: Annotated[
        int,
        typer.Option(min=0, help="Stored records; of pds, accounts."),
    ] = 0,
    shards: Annotated[
        int, typer.Option(min=1, max=64, help="Number of ingest processes.")
    ] = 1,
    posts: Annotated[
        int, typer.Option(min=0, help="Number of posts that are searched or shown.")
    ] = 0,
    readers: Annotated[
        int, typer.Option(min=0, help="Number of accounts that like posts.")
    ] = 0,
    likes: Annotated[int, typer.Option(min=0, help="Number of their likes.")] = 0,
    page: Annotated[
        Path | None,
        typer.Option(help="Write the tables of relevance into this page."),
    ] = None,
    failures: Annotated[
        Path | None,
        typer.Option(help="Write the queries that relevance fails to this file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure parts of Bigworld on this machine; without a name, all of them.

    All data are temporary, in a PostgreSQL of its own.
    """
    names = [name] if name is not None else list(BenchName)
    options: dict[str, Any] = {
        "stored": stored,
        "shards": shards,
        "posts": posts,
        "readers": readers,
        "likes": likes,
        "page": page,
        "failures": failures,
    }
    run(names, quick=quick, as_json=as_json, **options)


def load_bench(name: str) -> ModuleType:
    """Import the module of a benchmark."""
    return import_module(f"bench.{_MODULES.get(name, name)}")


def run(
    names: Sequence[str],
    *,
    quick: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run benchmarks one after the other and print their figures.

    Each takes those of `options` that it knows: `stored` records exist before ingest
    and backfill start, `shards` is the number of ingest processes, `page` and
    `failures` are files for the figures of relevance. Progress goes to standard error
    if it is a terminal.
    """
    console = Console(stderr=True)
    metrics: list[Metric] = []
    for name in names:
        known = _TAKES.get(name, ())
        taken = {option: options[option] for option in known if option in options}
        measure: Bench = partial(load_bench(name).run, **taken)
        started = time.monotonic()
        if console.is_terminal:
            console.print(f"[bold]{name}[/]")
            with Report(console) as report:
                found = measure(quick, report)
            console.print(f"{name}: {time.monotonic() - started:.0f} s")
        else:
            found = measure(quick, _Silence())
        metrics += found
        if as_json:
            for metric in found:
                print(to_line(metric))
            sys.stdout.flush()
    if not as_json:
        Console().print(to_table(metrics))
