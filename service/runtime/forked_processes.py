"""Processes of one server, forked from a parent that only watches them.

The parent has no threads and no connections: a fork copies neither.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from service.operator_errors import ServiceError
from service.runtime.child import end_with_parent
from service.runtime.failures import describe_failure
from service.runtime.supervisor import next_restart

log = structlog.get_logger(__name__)

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_TICK_S: Final = 0.1
# Below the patience of `up`, which kills the parent.
_STOP_PATIENCE_S: Final = 7.0
_MAX_DEATHS: Final = 3


@dataclass(slots=True)
class _Forked:
    """A process to keep running; `pid` is 0 while there is none."""

    number: int
    pid: int = 0
    started: float = 0.0
    deaths: int = 0
    due: float = 0.0


class ForkedProcesses:
    """`count` processes that run `main(number)`, forked again when they die.

    A dead process has the same number again.
    """

    def __init__(self, count: int, main: Callable[[int], None]) -> None:
        self._main = main
        self._children = [_Forked(number) for number in range(count)]
        self._stopping = False

    @property
    def pids(self) -> list[int]:
        """Return the ids of the processes that run."""
        return [child.pid for child in self._children if child.pid]

    def run(self) -> None:
        """Run until SIGINT or SIGTERM. For the main thread, without other threads.

        Raises ServiceError if all processes fail to start repeatedly.
        """
        before = {n: signal.signal(n, self._stop_soon) for n in _STOP_SIGNALS}
        # Loaded modules are never collected, so that their pages stay shared.
        gc.collect()
        gc.freeze()
        try:
            while not self._stopping:
                self._poll(time.monotonic())
                time.sleep(_TICK_S)
        finally:
            self._stop()
            gc.unfreeze()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_soon(self, *_: object) -> None:
        self._stopping = True

    def _poll(self, now: float) -> None:
        for child in self._children:
            if child.pid and (status := _ended(child.pid)) is not None:
                self._note_death(child, status, now)
            if not child.pid and now >= child.due:
                child.pid = self._fork(child.number)
                child.started = now
        if all(child.deaths >= _MAX_DEATHS for child in self._children):
            raise ServiceError("no process of `serve` starts: see its log")

    def _note_death(self, child: _Forked, status: int, now: float) -> None:
        child.deaths, delay = next_restart(child.deaths, now - child.started)
        child.pid, child.due = 0, now + delay
        log.warning(
            "process_exited", number=child.number, code=status, restart_in_s=delay
        )

    def _fork(self, number: int) -> int:
        # Blocked, so that no signal meets the parent's handlers in the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
            if not pid:
                self._run_child(number, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        return pid

    def _run_child(self, number: int, parent: int) -> NoReturn:
        """Run `main` and end: nothing that the parent opened is closed here."""
        code = 1
        try:
            # Ctrl-C reaches only the parent.
            os.setpgid(0, 0)
            for each in _STOP_SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            end_with_parent(signal.SIGTERM, parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            self._main(number)
            code = 0
        except BaseException as error:
            failure = describe_failure(error)
            if failure is None:
                log.exception("process_failed", number=number)
            else:
                print(f"bigworld: {failure}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _stop(self) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        end = time.monotonic() + _STOP_PATIENCE_S
        for child in self._children:
            while child.pid and _ended(child.pid) is None:
                if time.monotonic() > end:
                    log.warning("process_killed", number=child.number)
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)
                    break
                time.sleep(_TICK_S / 10)
            child.pid = 0


def _ended(pid: int) -> int | None:
    """Return the exit code of a child (negative: a signal), None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def check_port(host: str, port: int) -> None:
    """Raise OSError if another server listens: ours would share its port silently."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
