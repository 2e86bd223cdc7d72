"""Processes forked from one parent: restarts, a clean stop, one that cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from network.http.policy import HostLimits
from service.runtime.config import Config
from service.runtime.serving_process import ALONE, ServingProcess

# Each process writes its number and id to a file, then does what `DO` says.
SCRIPT = """
import os, sys, time
from pathlib import Path
from service.runtime import supervisor
from service.runtime.forked_processes import ForkedProcesses

supervisor._FIRST_DELAY_S = 0.05
def main(number):
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"{number} {os.getpid()}\\n")
    DO
print("ended", ForkedProcesses(3, main).run())
"""


def start(folder: Path, do: str) -> tuple[subprocess.Popen[bytes], Path]:
    marks = folder / "marks"
    marks.touch()
    argv = [sys.executable, "-c", SCRIPT.replace("DO", do), str(marks)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return process, marks


def wait_for_lines(marks: Path, count: int) -> list[list[str]]:
    end = time.monotonic() + 30
    while len(lines := marks.read_text().splitlines()) < count:
        assert time.monotonic() < end, lines
        time.sleep(0.02)
    return [line.split() for line in lines]


def test_dead_process_is_forked_again_with_its_number(tmp_path: Path) -> None:
    process, marks = start(tmp_path, "time.sleep(60)")
    first = dict(wait_for_lines(marks, 3))
    assert sorted(first) == ["0", "1", "2"]
    os.kill(int(first["1"]), signal.SIGKILL)
    number, pid = wait_for_lines(marks, 4)[3]
    assert number == "1"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=15)
    assert process.returncode == 0, err
    assert b"ended None" in out
    for each in (*first.values(), pid):
        assert not Path(f"/proc/{each}").exists()


def test_processes_that_all_fail_end_with_an_error(tmp_path: Path) -> None:
    process, marks = start(tmp_path, "raise OSError(98, 'in use')")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"no process of `serve` starts" in err
    assert b"bigworld: in use; stop the other program" in err
    assert 9 <= len(wait_for_lines(marks, 9)) <= 12


def test_process_takes_its_part_of_limits_that_must_not_multiply() -> None:
    limits = HostLimits(rate=50, burst=100, concurrency=3)
    part = ServingProcess(1, 4).part_of(limits)
    assert (part.rate, part.burst, part.concurrency) == (12.5, 25, 1)
    assert ALONE.part_of(limits) == limits
    config = Config.read(image_cache_mb=100, plc_requests_per_s=8)
    mine = ServingProcess(1, 4).part_of_settings(config)
    assert (mine.image_cache_mb, mine.plc_rate) == (25, 2)


def test_zero_processes_mean_one_for_each_core() -> None:
    every_core = Config.read(serve_processes=0)
    assert every_core.serve_process_count == len(os.sched_getaffinity(0))
    assert Config.read().serve_process_count == 1
