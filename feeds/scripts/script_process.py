"""The parent's side of a child process that runs one file of a feed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from feeds.scripts.interface import HEADER_BYTES, MAX_MESSAGE_BYTES, Read

_RUNNER: Final = Path(__file__).with_name("runner.py")
_PIECE: Final = 1 << 16
_END_S: Final = 1.0
_STEP_S: Final = 0.01


class ScriptError(Exception):
    """A file failed to load or to run, with the reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a child: seconds of loading and of a run, bytes of memory."""

    load_s: float = 5.0
    run_s: float = 3.0
    memory: int = 512 << 20

    @property
    def cpu_s(self) -> int:
        """Return the seconds of CPU time that end a child without a parent."""
        return int(self.load_s + self.run_s) + 1


@dataclass(frozen=True, slots=True)
class RunResult:
    """The posts that a file returned with their reasons, and notes on others."""

    items: list[tuple[str, str]]
    notes: tuple[str, ...]


class ScriptProcess:
    """A child that has loaded a file. One thread at a time uses it.

    Any error ends the child: the next run needs a new one.
    """

    def __init__(self, path: Path, text: str, limits: Limits, output: int) -> None:
        self._limits = limits
        self._connection, theirs = socket.socketpair()
        try:
            # -B: nothing is written into the checkout. -u: output is shown at once.
            self._child = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-B", "-u", str(_RUNNER)),
                    *(str(theirs.fileno()), str(limits.memory), str(limits.cpu_s)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Settings and secrets stay here.
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            self._connection.close()
            raise ScriptError(f"no process could be started: {error}") from error
        finally:
            theirs.close()
        until = monotonic() + limits.load_s
        try:
            self._send({"path": str(path), "text": text}, until)
            self.described = self._receive(until, limits.load_s)
        except BaseException:
            self.close()
            raise

    def run(self, viewer: str | None, now: str, read: Read) -> RunResult:
        """Run the file; `read` answers its calls. Raises ScriptError."""
        until = monotonic() + self._limits.run_s
        try:
            self._send({"viewer": viewer, "now": now}, until)
            while True:
                message = self._receive(until, self._limits.run_s)
                if "read" not in message:
                    return _read_result(message)
                self._send(read(message), until)
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Return True if the child can run again."""
        return self._child.returncode is None and not self._has_ended()

    def close(self) -> None:
        """End the child and its own children."""
        self._connection.close()
        if self._child.returncode is None:
            # Not reaped yet, so the group is still ours.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def _send(self, message: Mapping[str, Any], until: float) -> None:
        data = json.dumps(message).encode()
        try:
            self._set_timeout(until)
            self._connection.sendall(len(data).to_bytes(HEADER_BYTES, "big") + data)
        except TimeoutError:
            raise ScriptError("it does not read its input in time") from None
        except OSError:
            raise self._ended() from None

    def _receive(self, until: float, seconds: float) -> dict[str, Any]:
        try:
            size = int.from_bytes(self._take(HEADER_BYTES, until), "big")
            if size > MAX_MESSAGE_BYTES:
                raise ScriptError("its reply is too large")
            data = self._take(size, until)
        except TimeoutError:
            raise ScriptError(f"it took longer than {seconds:g} s") from None
        except OSError:
            raise self._ended() from None
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise ScriptError("its reply is malformed")
        if "failed" in message:
            raise ScriptError(str(message["failed"])[:1_000])
        return message

    def _take(self, size: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._set_timeout(until)
            piece = self._connection.recv(min(size - len(data), _PIECE))
            if not piece:
                raise ConnectionResetError
            data += piece
        return bytes(data)

    def _set_timeout(self, until: float) -> None:
        left = until - monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)

    def _has_ended(self) -> bool:
        """Return True if the child has ended; its group can still be ended."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._child.pid, options) is not None

    def _ended(self) -> ScriptError:
        if self._child.returncode is not None:
            return ScriptError("its process was ended")
        until = monotonic() + _END_S
        while not self._has_ended() and monotonic() < until:
            sleep(_STEP_S)
        self.close()
        code = self._child.wait()
        if code < 0:
            return ScriptError(f"its process was ended by {signal.Signals(-code).name}")
        return ScriptError(f"its process ended with exit code {code}")


def _read_result(message: Mapping[str, Any]) -> RunResult:
    items: list[tuple[str, str]] = []
    pairs = message.get("items")
    for pair in pairs if isinstance(pairs, list) else ():
        match pair:
            case [str(uri), str(reason)]:
                items.append((uri, reason))
            case _:
                raise ScriptError("its reply is malformed")
    notes: list[str] = []
    first, dropped = message.get("left_out"), message.get("dropped")
    if isinstance(first, list) and first and isinstance(dropped, int):
        notes.append(f"{dropped} values left out, {str(first[0])[:200]}")
    return RunResult(items, tuple(notes))
