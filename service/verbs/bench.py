"""`bigworld bench`: what this machine does, beside what it could do at best."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from rich.console import Console

from service.bench.metric import Bench, Metric
from service.bench.report import to_line, to_table
from service.progress import Report

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


def run(names: Sequence[str], *, quick: bool, as_json: bool) -> None:
    """Run benchmarks one after the other and print their figures.

    Progress goes to the terminal, if there is one, and never to standard output.
    """
    console = Console(stderr=True)
    metrics: list[Metric] = []
    for name in names:
        bench: Bench = import_module(f"service.bench.{MODULES[name]}").run
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
