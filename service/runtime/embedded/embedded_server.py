"""An embedded server: a locked folder, a private socket, a child process."""

from __future__ import annotations

import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

import psutil

from service.runtime.child import wait_for
from service.runtime.embedded.folders import FolderLock, socket_folder
from service.runtime.log_files import bound_log, last_line_of

_STOP_PATIENCE_S: Final = 60.0
# A restart recovers everything that an aborted start wrote.
_ABORT_PATIENCE_S: Final = 1.0
_LOG_TAIL: Final = 4_000


class EmbeddedServer(ABC):
    """A server with its data in `home/data`, run as user id `owner`.

    Use it as a context manager, or call `start` and `stop`.
    """

    PROGRAM: ClassVar[str]
    """Prefix of the names of its processes."""
    SOCKET: ClassVar[str]
    """Longest file name in its socket folder."""
    STOP_SIGNALS: ClassVar[tuple[signal.Signals, ...]]
    """Signals to stop it, in order; at least two."""

    def __init__(self, home: Path, owner: int) -> None:
        self._home = home.absolute()
        self._data = self._home / "data"
        self._log = self._home / f"{self.PROGRAM}.log"
        self._lock = FolderLock(self._home / "lock")
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets = self._home

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Return the process id of the running server."""
        return self._process.pid if self.alive and self._process else None

    def attach(self) -> bool:
        """Use the server that another process runs here; return False if there is none.

        `stop` leaves such a server running.
        """
        if not self._home.is_dir():
            return False
        self._find_sockets()
        return self._ready()

    def start(self) -> None:
        """Start the server and wait until it answers, including crash recovery.

        Raises EmbeddedServerError with the last line of its log if it exits.
        """
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._find_sockets()
            self._end_leftovers()
            self._start()
        except BaseException:
            self.stop(patience=_ABORT_PATIENCE_S)
            raise

    def bound_log(self) -> None:
        """Rotate a large log."""
        bound_log(self._log)

    def kill(self) -> None:
        """Kill the server; it recovers at the next start."""
        if self.alive and self._process is not None:
            self._process.send_signal(self.STOP_SIGNALS[1])

    def stop(self, patience: float = _STOP_PATIENCE_S) -> None:
        """Stop the server: end sessions, write data, escalate after `patience`."""
        process, self._process = self._process, None
        if process is not None:
            for number in self.STOP_SIGNALS:
                if process.poll() is None:
                    process.send_signal(number)
                if wait_for(process, patience):
                    break
        if self._lock.held and self._sockets.name.startswith("bigworld-"):
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._lock.release()

    @abstractmethod
    def _ready(self) -> bool:
        """Return True if the server answers."""

    @abstractmethod
    def _end_leftovers(self) -> None:
        """Stop a server that a killed parent left, and remove its files.

        The folder's lock is held, so that no living process owns such a server.
        """

    @abstractmethod
    def _start(self) -> None:
        """Start the server and wait until it answers."""

    def _find_sockets(self) -> None:
        self._sockets = socket_folder(self._home / "run", self.SOCKET, self._owner)

    def _servers(self) -> list[psutil.Process]:
        """Return the processes of the program that work in our data folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.name().startswith(self.PROGRAM) and Path(process.cwd()) in (
                    self._data,
                    self._data.resolve(),
                ):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def _reason_since(self, offset: int) -> str:
        """Return the reason of an exit as one line, with the path of the log."""
        output = self._log_since(offset)
        fatal = [line for line in output.splitlines() if "FATAL" in line]
        reason = last_line_of(fatal[0] if fatal else output)
        return f"{reason.rstrip('.')}; see {self._log}"

    def _log_since(self, offset: int) -> str:
        with self._log.open("rb") as log:
            log.seek(offset)
            return log.read()[-_LOG_TAIL:].decode("utf-8", "replace").strip()
