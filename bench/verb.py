"""`bigworld bench`: run benchmarks and print their figures with their floors."""

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

# Name of the benchmark -> its module, which is loaded on demand.
MODULES: Final = {
    "verify": "verify",
    "import": "imports",
    "ingest": "ingest",
    "backfill": "backfill",
    "serve": "serve",
}


class _Silence:
    """A receiver that ignores progress."""

    def count(self, what: str, done: int, total: int) -> None:
        return


# Options of the benchmarks.
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

    `stored` records exist before ingest and backfill start; `shards` is the number of
    ingest processes. Progress goes to standard error if it is a terminal.
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
