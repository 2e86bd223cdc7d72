"""PostgreSQL under our own supervision."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psutil
import psycopg
from psycopg import sql

from service.operator_errors import EmbeddedServerError
from service.runtime.child import Argument, spawn
from service.runtime.embedded.binaries import wheel_postgres
from service.runtime.embedded.embedded_server import EmbeddedServer
from service.runtime.embedded.folders import give_to
from service.runtime.embedded.privileges import choose_launch

_SHARED_MEMORY_PATIENCE_S = 10.0

# Defaults for one machine, crash-safe.
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    # The wheels only have pglz: compressing full-page writes took four fifths of the
    # server's time on a large index.
    "wal_compression": "off",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server; `settings` override our defaults."""

    PROGRAM = "postgres"
    SOCKET = ".s.PGSQL.5432.lock"
    STOP_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def __init__(
        self,
        home: Path,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._launch = choose_launch()
        super().__init__(home, self._launch.owner)
        self._binaries = binaries or wheel_postgres()
        self._settings = {**_SETTINGS, **(settings or {})}

    def url(self, database: str = "postgres") -> str:
        """Return a libpq URL of `database` over the unix socket."""
        return f"postgresql://postgres@/{database}?host={self._sockets}"

    def ensure_database(self, name: str) -> bool:
        """Create the database unless it exists; return True if it was created."""
        with psycopg.connect(self.url(), autocommit=True) as conn:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if conn.execute(query, (name,)).fetchone() is not None:
                return False
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            return True

    def _initialise(self) -> None:
        """Create the cluster in a temporary folder and move it into place."""
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
                    f"PostgreSQL could not create its files in {self._home}: "
                    f"{self._reason_since(started)}"
                )
        fresh.rename(self._data)

    def _start(self) -> None:
        if not self._data.exists():
            self._initialise()
        give_to(self._data, self._launch.owner)
        self._start_patiently()

    def _start_patiently(self) -> None:
        """Start; retry while the memory of a dead server is being freed."""
        deadline = time.monotonic() + _SHARED_MEMORY_PATIENCE_S
        while True:
            started = self._log.stat().st_size if self._log.exists() else 0
            if self._start_once():
                return
            output = self._log_since(started)
            again = "pre-existing shared memory" in output or "lock file" in output
            if not again or time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"PostgreSQL did not start: {self._reason_since(started)}"
                )
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
        # No time limit: crash recovery may take long.
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
        # After a reboot, or in a container, the number of a pid file may belong to
        # another program: look for processes that work in the folder.
        for number, patience in ((signal.SIGINT, 30.0), (signal.SIGKILL, 10.0)):
            left = self._servers()
            for process in left:
                # Children exit with their postmaster; only orphans need SIGKILL.
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
        (self._sockets / self.SOCKET).unlink(missing_ok=True)

    def _recorded_pid(self) -> int | None:
        try:
            first = (self._data / "postmaster.pid").read_text().partition("\n")[0]
        except FileNotFoundError:
            return None
        return int(first) if first.isdigit() else None
