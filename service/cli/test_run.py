"""`bigworld test`: run the tests, and run failed ones again by themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FLAKY: Final = 8
"""Exit code if every failed test passed when it ran again."""


def run_tests(options: Sequence[str], *, long: bool, mutants: bool) -> int:
    """Run the tests, or the mutants; return the exit code.

    With options the run replaces this process, and failed tests are not run again.
    """
    arguments = [sys.executable, "-m", "pytest"]
    if not any(option == "--pdb" or option.startswith("-n") for option in options):
        # Workers take files in the order that tests/conftest.py gives them.
        arguments += ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    if long:
        arguments.append("--long")
    if mutants:
        arguments = [sys.executable, "tests/mutants/mutant_run.py"]
    os.chdir(ROOT)
    sys.stdout.flush()
    if mutants or options:
        os.execv(sys.executable, [*arguments, *options])  # noqa: S606
    code = subprocess.run([*arguments, "--cache-clear"], check=False).returncode
    return rerun_failed(ROOT, ["--long"] if long else []) if code == 1 else code


def rerun_failed(root: Path, options: Sequence[str]) -> int:
    """Run the failed tests again one by one; name those that pass now.

    Return the exit code of pytest, or FLAKY if every test passes now.
    """
    cache = root / ".pytest_cache" / "v" / "cache" / "lastfailed"
    failed = set(json.loads(cache.read_text()))
    print(f"\nRunning {len(failed)} failed tests again:", flush=True)
    arguments = [sys.executable, "-m", "pytest", "--last-failed", *options]
    code = subprocess.run(arguments, cwd=root, check=False).returncode
    if code in (0, 1):
        passed = failed - set(json.loads(cache.read_text()))
        print(f"\n{len(passed)} tests passed only when run again:")
        for test in sorted(passed):
            print(f"  {test}")
    return code or FLAKY
