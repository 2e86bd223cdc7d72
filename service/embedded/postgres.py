"""PostgreSQL under our own supervision."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil
import psycopg
from psycopg import sql

from service.child import Argument, spawn, wait_for
from service.embedded.binaries import wheel_postgres
from service.embedded.folders import FolderLock, give_to, socket_folder
from service.embedded.privileges import choose_launch
from service.errors import EmbeddedServerError

# The longest name PostgreSQL puts beside its socket.
_SOCKET = ".s.PGSQL.5432.lock"
_SHARED_MEMORY_PATIENCE_S = 10.0
_STOP_PATIENCE_S = 60.0

# One process tree on one machine; crash-safe. `settings` may override each.
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """A PostgreSQL server in `home/data`, stopped with its parent.

    `settings` are server settings put over our defaults. Use as a context manager,
    or call `start` and `stop`.
    """

    def __init__(
        self,
        home: Path,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._home = home.absolute()
        self._data = self._home / "data"
        self._log = self._home / "postgres.log"
        self._binaries = binaries or wheel_postgres()
        self._settings = {**_SETTINGS, **(settings or {})}
        self._lock = FolderLock(self._home / "lock")
        self._launch = choose_launch()
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
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._process.pid if self.alive and self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def url(self, database: str = "postgres") -> str:
        """A libpq URL of `database` over the unix socket."""
        return f"postgresql://postgres@/{database}?host={self._sockets}"

    def attach(self) -> bool:
        """Use the server that another process runs in this folder; False if none.

        A server we are attached to is not ours: `stop` leaves it alone.
        """
        if not self._home.is_dir():
            return False
        self._sockets = socket_folder(self._home / "run", _SOCKET, self._launch.owner)
        return self._ready()

    def start(self) -> None:
        """Start the server and wait until it answers, recovery after a crash included.

        Raises EmbeddedServerError with the end of the server's log when it exits.
        """
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._sockets = socket_folder(
                self._home / "run", _SOCKET, self._launch.owner
            )
            self._end_leftovers()
            if not self._data.exists():
                self._initialise()
            give_to(self._data, self._launch.owner)
            self._start_patiently()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop fast (sessions end, data is written); escalate if it takes too long."""
        process, self._process = self._process, None
        if process is not None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                if process.poll() is None:
                    process.send_signal(number)
                if wait_for(process, _STOP_PATIENCE_S):
                    break
        if self._lock.held and self._sockets.name.startswith("bigworld-"):
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._lock.release()

    def ensure_database(self, name: str) -> bool:
        """Create the database unless it exists; tells whether it was created."""
        with psycopg.connect(self.url(), autocommit=True) as conn:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if conn.execute(query, (name,)).fetchone() is not None:
                return False
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            return True

    def _initialise(self) -> None:
        """Make the cluster beside its place and move it there when it is whole."""
        fresh = self._home / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        give_to(fresh, self._launch.owner)
        arguments: tuple[Argument, ...] = (
            self._binaries / "initdb",
            *("-D", fresh, "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            "--no-instructions",
        )
        with self._log.open("ab") as log:
            started = log.tell()
            process = self._spawn(arguments, log, signal.SIGKILL)
            if process.wait() != 0:
                raise EmbeddedServerError(
                    f"initdb failed ({process.returncode}):\n{self._log_since(started)}"
                )
        fresh.rename(self._data)

    def _start_patiently(self) -> None:
        """Start; while a dead server's memory is still being freed, try again."""
        deadline = time.monotonic() + _SHARED_MEMORY_PATIENCE_S
        while True:
            started = self._log.stat().st_size if self._log.exists() else 0
            if self._start_once():
                return
            output = self._log_since(started)
            again = "pre-existing shared memory" in output or "lock file" in output
            if not again or time.monotonic() > deadline:
                raise EmbeddedServerError(f"PostgreSQL did not start:\n{output}")
            time.sleep(0.1)

    def _start_once(self) -> bool:
        options: list[Argument] = [
            part
            for name, value in self._settings.items()
            for part in ("-c", f"{name}={value}")
        ]
        arguments: tuple[Argument, ...] = (
            self._binaries / "postgres",
            *("-D", self._data, "-k", self._sockets, "-p", "5432", *options),
        )
        with self._log.open("ab") as log:
            self._process = process = self._spawn(arguments, log, signal.SIGINT)
        # No upper limit: recovery after a crash takes as long as it takes.
        while process.poll() is None:
            if self._ready():
                return True
            time.sleep(0.02)
        return False

    def _ready(self) -> bool:
        probe: list[Argument] = [
            self._binaries / "pg_isready",
            *("-q", "-U", "postgres", "-p", "5432", "-h", self._sockets),
        ]
        return subprocess.run(probe, check=False).returncode == 0

    def _spawn(
        self,
        arguments: tuple[Argument, ...],
        log: IO[bytes],
        death_signal: signal.Signals,
    ) -> subprocess.Popen[bytes]:
        return spawn(
            arguments,
            death_signal=death_signal,
            prefix=self._launch.prefix,
            as_nobody=self._launch.as_nobody,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            cwd=Path("/"),
        )

    def _end_leftovers(self) -> None:
        """Stop a server that a killed parent left, and remove its stale lock files.

        We hold the folder's lock, so no living supervisor owns such a server. A pid
        file alone proves nothing: after a reboot, or in a container, its number
        belongs to some other program. The processes that work in the folder do.
        """
        for number, patience in ((signal.SIGINT, 30.0), (signal.SIGKILL, 10.0)):
            left = self._servers()
            for process in left:
                # Children follow their postmaster; only orphans need the signal.
                if number is signal.SIGKILL or process.pid == self._recorded_pid():
                    process.send_signal(number)
            _, left = psutil.wait_procs(left, timeout=patience)
            if not left:
                break
        else:
            raise EmbeddedServerError(
                f"a PostgreSQL of an earlier run in {self._data} cannot be stopped"
            )
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        (self._sockets / _SOCKET).unlink(missing_ok=True)

    def _recorded_pid(self) -> int | None:
        try:
            first = (self._data / "postmaster.pid").read_text().partition("\n")[0]
        except FileNotFoundError:
            return None
        return int(first) if first.isdigit() else None

    def _servers(self) -> list[psutil.Process]:
        """Every postgres process at work in our data folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.name().startswith("postgres") and Path(process.cwd()) in (
                    self._data,
                    self._data.resolve(),
                ):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def _log_since(self, offset: int) -> str:
        with self._log.open("rb") as log:
            log.seek(offset)
            return log.read()[-4_000:].decode("utf-8", "replace").strip()
