"""`bigworld check`: lint, format, types, layers, and schema equal to migrations."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from service.runtime.embedded import EmbeddedPostgres
from storage import migrate

ROOT = Path(__file__).resolve().parents[2]
_DURABILITY_OFF = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB"}

Step = Callable[[], str]


def _program(*arguments: str) -> Step:
    def run() -> str:
        scripts = Path(sys.executable).parent
        result = subprocess.run(
            [scripts / arguments[0], *arguments[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if result.returncode == 0 else result.stdout + result.stderr

    return run


def compare_schemas() -> str:
    """Return the differences between the tables in code and migrated databases."""
    differences = []
    with tempfile.TemporaryDirectory(prefix="bw-") as folder:
        home = Path(folder) / "postgres"
        with EmbeddedPostgres(home, settings=_DURABILITY_OFF) as server:
            for name in migrate.TARGETS:
                server.ensure_database(name)
                url = server.url(name)
                migrate.upgrade(url, name)
                differences += [f"{name}: {each}" for each in migrate.check(url, name)]
    return "\n".join(differences)


STEPS: dict[str, Step] = {
    "ruff check": _program("ruff", "check", "."),
    "ruff format": _program("ruff", "format", "--check", "."),
    "mypy --strict": _program("mypy"),
    "import layers": _program("lint-imports"),
    "schema equals migrations": compare_schemas,
}


def run_checks(console: Console) -> bool:
    """Run every step and print its result; return True if all succeed."""
    all_passed = True
    for name, step in STEPS.items():
        started = time.monotonic()
        complaint = step()
        seconds = f"{time.monotonic() - started:.1f} s"
        mark = "[red]FAILED[/]" if complaint else "[green]ok[/]"
        console.print(f"{name:<26} {mark} [dim]{seconds}[/]", highlight=False)
        if complaint:
            all_passed = False
            console.print(complaint.rstrip(), markup=False, highlight=False)
    return all_passed
