"""The crawler as a child process that starts and dies quickly."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

_CHILD = Path(__file__).with_name("crawl_child.py")
_ROOT = _CHILD.parents[2]
_INTEGRATION = _ROOT / "tests" / "integration"


class CrawlerProcess:
    """A parent process (`crawl_child`) and the crawler that it has forked last."""

    def __init__(self, url: str, world: dict[str, Any], folder: Path) -> None:
        file = folder / "world.json"
        file.write_text(json.dumps(world))
        path = os.pathsep.join(map(str, (_ROOT, _CHILD.parent, _INTEGRATION)))
        self._parent = subprocess.Popen(
            [sys.executable, str(_CHILD), url, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            text=True,
        )
        self.pid = 0

    def start(self, **special: Any) -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(special) + "\n")
        self._parent.stdin.flush()
        self.pid = int(self._parent.stdout.readline())

    @property
    def parent_pid(self) -> int:
        """Return the pid of the process that forks the crawlers."""
        return self._parent.pid

    @property
    def alive(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()

    @property
    def memory_mib(self) -> float:
        """Return the resident memory, 0 once it has ended."""
        with contextlib.suppress(psutil.Error):
            return float(psutil.Process(self.pid).memory_info().rss) / 2**20
        return 0.0

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time so far, 0 once it has ended."""
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(self.pid).cpu_times()
            return float(times.user + times.system)
        return 0.0

    def wait(self, seconds: float) -> bool:
        """Return True if it ends by itself within so many seconds."""
        # The parent ignores the end of its children, so the pid vanishes.
        end = time.monotonic() + seconds
        while self.alive and time.monotonic() < end:
            time.sleep(0.01)
        return not self.alive

    def kill(self, sent: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, sent)
        assert self.wait(60), f"{self.pid} does not end"

    def close(self) -> None:
        if self.pid:
            self.kill()
        self._parent.kill()
        self._parent.wait()
        for pipe in (self._parent.stdin, self._parent.stdout):
            assert pipe is not None
            pipe.close()
