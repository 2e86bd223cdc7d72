"""The second run of failed tests by `bigworld test`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.test_run import FLAKY, rerun_failed

TESTS = """
from pathlib import Path

def test_flaky():
    mark = Path(__file__).with_name("mark")
    seen = mark.exists()
    mark.touch()
    assert seen

def test_broken():
    assert not {broken}
"""


@pytest.mark.parametrize(("broken", "code"), [(False, FLAKY), (True, 1)])
def test_rerun_names_flaky_tests_and_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], broken: bool, code: int
) -> None:
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_two.py").write_text(TESTS.format(broken=broken))
    command = [sys.executable, "-m", "pytest", "-q"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 1
    capfd.readouterr()
    assert rerun_failed(tmp_path, []) == code
    shown = capfd.readouterr().out
    assert f"Running {1 + broken} failed tests again:" in shown
    passed = shown.partition("1 tests passed only when run again:\n")[2]
    assert passed == "  test_two.py::test_flaky\n"
