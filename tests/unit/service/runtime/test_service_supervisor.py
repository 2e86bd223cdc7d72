"""The supervisor of child processes: restarts, backoff, a clean and a forced stop."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from service.operator_errors import ServiceError
from service.runtime import supervisor as module
from service.runtime.log_files import KEPT_FILES, bound_log
from service.runtime.supervisor import Supervisor

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(60)"
)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / "logs", said.append)
    yield made
    made.stop()


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def pid_of(supervisor: Supervisor) -> int:
    process = supervisor._children[0].process
    assert process is not None
    return process.pid


def test_killed_child_is_restarted(
    supervisor: Supervisor, said: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "logs" / "sleeper.log"
    supervisor.start("sleeper", [sys.executable, "-c", SLEEP], {})
    wait_until(lambda: "up" in log.read_text())
    os.kill(pid_of(supervisor), signal.SIGKILL)
    wait_until(lambda: (supervisor.poll(), said)[1])
    assert "sleeper exited (SIGKILL)" in said[0]
    assert str(log) in said[0]
    wait_until(lambda: (supervisor.poll(), log.read_text().count("up") == 2)[1])


def test_check_reports_a_child_that_fails_repeatedly(
    supervisor: Supervisor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_DELAY_S", 0.01)
    code = "import sys; print('no such thing'); sys.exit(3)"
    supervisor.start("broken", [sys.executable, "-c", code], {})
    wait_until(lambda: (supervisor.poll(), len(said) >= 3)[1])
    delays = [
        float(line.partition("restarting in ")[2].split()[0]) for line in said[:3]
    ]
    assert "exit code 3" in said[0]
    assert supervisor._children[0].deaths >= 3
    assert delays == sorted(delays)
    with pytest.raises(ServiceError, match="no such thing"):
        supervisor.check()


def test_stop_ends_children_cleanly(supervisor: Supervisor) -> None:
    for name in ("a", "b"):
        supervisor.start(name, [sys.executable, "-c", SLEEP], {})
    children = [child.process for child in supervisor._children]
    started = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - started < 5
    assert [child and child.returncode for child in children] == [-15, -15]


def test_stop_kills_a_child_that_ignores_sigterm(
    supervisor: Supervisor,
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_STOP_PATIENCE_S", 0.3)
    supervisor.start("stubborn", [sys.executable, "-c", STUBBORN], {})
    wait_until(lambda: "up" in (tmp_path / "logs" / "stubborn.log").read_text())
    child = psutil.Process(pid_of(supervisor))
    supervisor.stop()
    assert not child.is_running()
    assert said == ["stubborn did not stop in time and is killed"]


def test_stop_kills_an_expendable_child_early(
    supervisor: Supervisor,
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_EXPENDABLE_S", 0.2)
    argv = [sys.executable, "-c", STUBBORN]
    supervisor.start("worker", argv, {}, expendable=True)
    wait_until(lambda: "up" in (tmp_path / "logs" / "worker.log").read_text())
    started = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - started < 5
    assert said == []


def test_child_has_its_environment_and_process_group(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    code = "import os; print(os.environ['X'], os.getpgrp() == os.getpid(), flush=True)"
    supervisor.start("child", [sys.executable, "-c", code], {"X": "given"})
    log = tmp_path / "logs" / "child.log"
    wait_until(lambda: "given True" in log.read_text())


def test_bound_log_rotates_and_keeps_a_few(tmp_path: Path) -> None:
    log = tmp_path / "loud.log"
    with log.open("ab", buffering=0) as writer:
        for number in range(8):
            writer.write(b"%d" % number * 100)
            bound_log(log, most_bytes=50)
            assert log.stat().st_size == 0
        # The writer goes on in the file that it holds.
        writer.write(b"new")
    bound_log(log, most_bytes=50)
    assert log.read_bytes() == b"new"
    older = sorted(path.name for path in tmp_path.iterdir() if path != log)
    assert older == [f"loud.log.{number}" for number in range(1, KEPT_FILES + 1)]
    newest = tmp_path / "loud.log.1"
    assert newest.read_bytes() == b"7" * 100
    assert newest.stat().st_mode & 0o777 == 0o600


def test_supervisor_bounds_the_logs_of_its_children(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "bound_log", lambda path: bounded.append(path))
    bounded: list[Path] = []
    supervisor.start("loud", [sys.executable, "-c", SLEEP], {})
    supervisor.poll()
    assert bounded == [tmp_path / "logs" / "loud.log"]
