"""Child processes of one command: started in order, restarted when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.operator_errors import ServiceError
from service.runtime.child import spawn
from service.runtime.log_files import bound_log, last_line

_FIRST_DELAY_S = 0.5
_LAST_DELAY_S = 30.0
# After this time a child counts as healthy, and its next exit as the first.
_WELL_AFTER_S = 60.0
_STOP_PATIENCE_S = 8.0
_EXPENDABLE_S = 2.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Child:
    """A process to keep running."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = 0.0
    log: Path = field(default_factory=Path)
    expendable: bool = False

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


def next_restart(deaths: int, lived_s: float) -> tuple[int, float]:
    """Return the deaths in a row after one more, and the seconds until the restart."""
    deaths = 1 if lived_s >= _WELL_AFTER_S else deaths + 1
    return deaths, min(_LAST_DELAY_S, _FIRST_DELAY_S * 2 ** min(deaths - 1, 16))


class Supervisor:
    """Child processes, restarted until `stop`, with bounded logs in `logs/<name>.log`.

    Call it from one thread that outlives the children.
    """

    def __init__(self, logs: Path, say: Say) -> None:
        self._logs = logs
        self._say = say
        self._children: list[Child] = []

    def start(
        self,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        expendable: bool = False,
    ) -> None:
        """Start a child and keep it running.

        An `expendable` child may be killed at any time: its work can be repeated.
        """
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        child = Child(name, argv, environment, log=log, expendable=expendable)
        self._children.append(child)
        self._launch(child)

    def poll(self) -> None:
        """Restart children that exited, and bound their logs. Call it often."""
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and not child.alive:
                self._schedule_restart(child, now)
            if child.process is None and now >= child.due:
                self._launch(child)
            bound_log(child.log)

    def check(self) -> None:
        """Raise ServiceError if a child fails to start repeatedly."""
        for child in self._children:
            if child.deaths >= 3:
                reason = last_line(child.log).removeprefix("bigworld: ").rstrip(".")
                raise ServiceError(
                    f"{child.name} does not start: {reason}; see {child.log}"
                )

    def kill(self) -> None:
        """Kill all children at once."""
        for child in self._children:
            if child.alive:
                _signal(child, signal.SIGKILL)

    def stop(self, patience: float | None = None) -> None:
        """Stop all children; kill those that run on after `patience` seconds."""
        most = _STOP_PATIENCE_S if patience is None else patience
        left = [child for child in self._children if child.alive]
        self._children.clear()
        for child in left:
            _signal(child, signal.SIGTERM)
        started = time.monotonic()
        for child in sorted(left, key=lambda child: not child.expendable):
            assert child.process is not None
            allowed = min(_EXPENDABLE_S, most) if child.expendable else most
            try:
                child.process.wait(max(0.0, started + allowed - time.monotonic()))
            except subprocess.TimeoutExpired:
                if not child.expendable:
                    self._say(f"{child.name} did not stop in time and is killed")
                _signal(child, signal.SIGKILL)
                child.process.wait()

    def _launch(self, child: Child) -> None:
        with child.log.open("ab") as log:
            child.process = spawn(
                child.argv,
                death_signal=signal.SIGTERM,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **child.environment},
            )
        child.started = time.monotonic()

    def _schedule_restart(self, child: Child, now: float) -> None:
        assert child.process is not None
        code = child.process.returncode
        child.deaths, delay = next_restart(child.deaths, now - child.started)
        child.process, child.due = None, now + delay
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        self._say(
            f"{child.name} exited ({how}); restarting in {delay:.1f} s, see {child.log}"
        )


def _signal(child: Child, number: signal.Signals) -> None:
    assert child.process is not None
    child.process.send_signal(number)
