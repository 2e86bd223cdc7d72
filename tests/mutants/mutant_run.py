"""Plant one bug after another in a copy of the tree; the tests must detect each.

    ./bigworld test --mutants [PART OF A NAME …]

A mutant is killed when every test it names fails on it. The unchanged copy is tested
first: a test that fails there proves nothing. A mutant that cannot be tried counts as
alive. Exit code 1 if a security mutant is alive, or more than one of twenty.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mutant import SECURITY, THREATS, Mutant
from mutant_catalog import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "var", "node_modules", "__pycache__", ".*_cache", ".hypothesis"
)
_FAILED_TESTS = 1
_GRACE_S = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run of tests; `failed` are names with and without case."""

    code: int | None
    """Exit code of pytest; None after a timeout."""
    failed: frozenset[str]
    output: str
    seconds: float


class Copy:
    """A copy of the tree, to run tests in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tree"
        self._report = folder / "report.xml"
        shutil.copytree(ROOT, self.folder, ignore=_LEFT_OUT)
        # A cached module of equal size and second would count as fresh.
        self._environment = os.environ | {
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._check_imports()

    def _check_imports(self) -> None:
        code = "import protocol, indexer; print(protocol.__file__, indexer.__file__)"
        output = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if not all(part.startswith(str(self.folder)) for part in output.split()):
            raise RuntimeError(f"the copy is not what is imported: {output}")

    def run(self, tests: Iterable[str], seconds: float) -> Outcome:
        """Run these tests."""
        self._report.unlink(missing_ok=True)
        started = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-q", "--tb=line", "--no-header"),
                *("-p", "no:cacheprovider", f"--junitxml={self._report}"),
                *tests,
            ],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        code: int | None = None
        try:
            output = process.communicate(timeout=seconds)[0]
            code = process.returncode
        except subprocess.TimeoutExpired:
            output = _end(process)
        except BaseException:
            _end(process)
            raise
        failed = _failed_tests(self._report) if code == _FAILED_TESTS else frozenset()
        return Outcome(code, failed, output, time.monotonic() - started)


def _end(process: subprocess.Popen[str]) -> str:
    """Let pytest clean up its servers, then kill what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_GRACE_S)[0]
    return ""


def _failed_tests(report: Path) -> frozenset[str]:
    """Return the tests whose assertions failed, without broken fixtures."""
    found: set[str] = set()
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is None:
            continue
        path = case.attrib["classname"].replace(".", "/") + ".py"
        name = case.attrib["name"]
        found |= {f"{path}::{name}", f"{path}::{name.partition('[')[0]}"}
    return frozenset(found)


def try_mutant(copy: Copy, mutant: Mutant) -> str:
    """Plant the bug, run its tests, remove it; return the trouble, "" if killed."""
    path = copy.folder / mutant.file
    text = path.read_text()
    try:
        path.write_text(mutant.apply(text))
    except ValueError as error:
        return str(error)
    try:
        outcome = copy.run(mutant.tests, mutant.seconds)
    finally:
        path.write_text(text)
    if outcome.code is None:
        return f"timed out after {outcome.seconds:.0f} s"
    if outcome.code == 0:
        return "SURVIVED"
    if outcome.code != _FAILED_TESTS:
        return f"could not be tried (pytest: {outcome.code})\n{outcome.output[-2_000:]}"
    blind = [test for test in mutant.tests if test not in outcome.failed]
    return f"not seen by {', '.join(blind)}" if blind else ""


def choose(words: Sequence[str]) -> list[Mutant]:
    """Return the mutants of the named threats or with a word in their name."""
    return [
        mutant
        for mutant in MUTANTS
        if not words
        or mutant.threat in words
        or any(word in mutant.name for word in words if word not in THREATS)
    ]


def blind_tests(copy: Copy, tests: Sequence[str]) -> list[str]:
    """Return the tests that fail twice on the unchanged copy."""
    print(f"{len(tests)} tests on the unchanged copy …", flush=True)
    outcome = copy.run(tests, 1_800.0)
    print(f"done in {outcome.seconds:.0f} s", flush=True)
    if outcome.code == 0:
        return []
    print(outcome.output[-6_000:])
    suspects = [test for test in tests if test in outcome.failed] or tests
    return [test for test in suspects if copy.run([test], 600.0).code != 0]


def run_all(copy: Copy, mutants: Sequence[Mutant]) -> list[Mutant]:
    """Try mutants and print a line each; return those that are alive."""
    blind = blind_tests(copy, sorted({test for m in mutants for test in m.tests}))
    alive: list[Mutant] = []
    for mutant in mutants:
        started = time.monotonic()
        broken = [test for test in mutant.tests if test in blind]
        if broken:
            trouble = f"not tried: {', '.join(broken)} fails without it"
        else:
            trouble = try_mutant(copy, mutant)
        if trouble:
            alive.append(mutant)
        seconds = time.monotonic() - started
        print(
            f"{mutant.threat:<11} {mutant.name:<38} {seconds:5.0f} s  "
            f"{trouble or 'killed'}",
            flush=True,
        )
    return alive


def is_enough(mutants: Sequence[Mutant], alive: Sequence[Mutant]) -> bool:
    """Return True if few enough are alive."""
    if any(mutant.threat in SECURITY for mutant in alive):
        return False
    return len(alive) <= len(mutants) // 20


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bigworld test --mutants",
        description="Plant known bugs, one at a time; the tests must find each.",
    )
    parser.add_argument(
        "words",
        nargs="*",
        help=f"part of a mutant's name, or a threat: {', '.join(THREATS)}",
    )
    mutants = choose(parser.parse_args().words)
    if not mutants:
        print("no such mutant", file=sys.stderr)
        return 2
    os.nice(10)
    with tempfile.TemporaryDirectory(prefix="bw-mutants-") as folder:
        alive = run_all(Copy(Path(folder)), mutants)
    print(f"{len(mutants) - len(alive)} of {len(mutants)} mutants killed")
    return 0 if is_enough(mutants, alive) else 1


if __name__ == "__main__":
    sys.exit(main())
