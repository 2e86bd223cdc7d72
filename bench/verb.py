"""`bigworld bench`: what this machine does, beside what it could do at best."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Final

from rich.console import Console

from bench.metric import Bench, Metric
from bench.report import to_line, to_table
from service.cli.progress import Report

# Name of the benchmark -> its module, of which only what is asked for is loaded.
MODULES: Final = {
    "verify": "verify",
    "import": "imports",
    "ingest": "ingest",
    "backfill": "backfill",
    "serve": "serve",
}


class _Silence:
    """Nobody watches."""

    def count(self, what: str, done: int, total: int) -> None:
        return


# What of the options a benchmark takes.
_TAKES: Final = {"ingest": ("stored", "shards"), "backfill": ("stored",)}


def run(
    names: Sequence[str],
    *,
    quick: bool,
    as_json: bool,
    stored: int = 0,
    shards: int = 1,
) -> None:
    """Run benchmarks one after the other and print their figures.

    `stored` records are there before those start that take it; `shards` is how many
    processes ingest. Progress goes to the terminal, if there is one, and never to
    standard output.
    """
    console = Console(stderr=True)
    metrics: list[Metric] = []
    for name in names:
        given = {"stored": stored, "shards": shards}
        taken = {option: given[option] for option in _TAKES.get(name, ())}
        module = import_module(f"bench.{MODULES[name]}")
        bench: Bench = partial(module.run, **taken)
        started = time.monotonic()
        if console.is_terminal:
            console.print(f"[bold]{name}[/]")
            with Report(console) as report:
                found = bench(quick, report)
            console.print(f"{name}: {time.monotonic() - started:.0f} s")
        else:
            found = bench(quick, _Silence())
        metrics += found
        if as_json:
            for metric in found:
                print(to_line(metric))
            sys.stdout.flush()
    if not as_json:
        Console().print(to_table(metrics))
