"""Valkey under our own supervision."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import redis

from service.operator_errors import EmbeddedServerError
from service.runtime.child import spawn
from service.runtime.embedded.binaries import wheel_valkey
from service.runtime.embedded.embedded_server import EmbeddedServer

_END_PATIENCE_S = 60.0


class EmbeddedValkey(EmbeddedServer):
    """A Valkey server with an append-only file."""

    PROGRAM = "valkey"
    SOCKET = "valkey.sock"
    STOP_SIGNALS = (signal.SIGTERM, signal.SIGKILL)

    def __init__(self, home: Path, *, binary: Path | None = None) -> None:
        super().__init__(home, os.geteuid())
        self._binary = binary or wheel_valkey()

    @property
    def _socket(self) -> Path:
        return self._sockets / self.SOCKET

    def url(self, database: int = 0) -> str:
        """Return a redis-py URL of the numbered database."""
        return f"unix://{self._socket}?db={database}"

    def celery_url(self, database: int = 0) -> str:
        """Return the URL in the form of Celery's Redis transport."""
        return f"redis+socket://{self._socket}?virtual_host={database}"

    def _ready(self) -> bool:
        try:
            with redis.Redis(unix_socket_path=str(self._socket)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _start(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        arguments = (
            *(self._binary, "--port", "0", "--unixsocket", self._socket),
            *("--unixsocketperm", "700", "--dir", self._data, "--daemonize", "no"),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction"),
        )
        with self._log.open("ab") as log:
            started = log.tell()
            self._process = process = spawn(
                arguments,
                death_signal=signal.SIGTERM,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._data,
            )
        # No time limit: it loads its file before it answers.
        while process.poll() is None:
            if self._ready():
                return
            time.sleep(0.02)
        raise EmbeddedServerError(
            f"Valkey did not start: {self._reason_since(started)}"
        )

    def _end_leftovers(self) -> None:
        left = self._servers()
        for process in left:
            process.terminate()
        _, left = psutil.wait_procs(left, timeout=_END_PATIENCE_S)
        if left:
            raise EmbeddedServerError(
                f"a Valkey of an earlier run in {self._data} cannot be stopped"
            )
        self._socket.unlink(missing_ok=True)
