"""Valkey under our own supervision."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import redis

from service.child import spawn, wait_for
from service.embedded.binaries import wheel_valkey
from service.embedded.folders import FolderLock, socket_folder
from service.errors import EmbeddedServerError

_SOCKET = "valkey.sock"
_STOP_PATIENCE_S = 60.0


class EmbeddedValkey:
    """A Valkey server in `home`, with an append-only file, on a unix socket."""

    def __init__(self, home: Path, *, binary: Path | None = None) -> None:
        self._home = home.absolute()
        self._log = self._home / "valkey.log"
        self._binary = binary or wheel_valkey()
        self._lock = FolderLock(self._home / "lock")
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
        return self._process.pid if self.alive and self._process else None

    @property
    def _socket(self) -> Path:
        return self._sockets / _SOCKET

    def url(self, database: int = 0) -> str:
        """A redis-py URL of the numbered database."""
        return f"unix://{self._socket}?db={database}"

    def celery_url(self, database: int = 0) -> str:
        """The same, as Celery's Redis transport spells it."""
        return f"redis+socket://{self._socket}?virtual_host={database}"

    def attach(self) -> bool:
        """Use the server that another process runs in this folder; False if none."""
        if not self._home.is_dir():
            return False
        self._sockets = socket_folder(self._home / "run", _SOCKET, os.geteuid())
        try:
            with redis.Redis(unix_socket_path=str(self._socket)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def start(self) -> None:
        """Start the server and wait until it answers (its file is loaded by then)."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._sockets = socket_folder(self._home / "run", _SOCKET, os.geteuid())
            self._end_leftovers()
            self._socket.unlink(missing_ok=True)
            self._start_once()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    process.send_signal(number)
                if wait_for(process, _STOP_PATIENCE_S):
                    break
        if self._lock.held and self._sockets.name.startswith("bigworld-"):
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._lock.release()

    def _start_once(self) -> None:
        data = self._home / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        arguments = (
            *(self._binary, "--port", "0", "--unixsocket", self._socket),
            *("--unixsocketperm", "700", "--dir", data, "--daemonize", "no"),
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
                cwd=data,
            )
        client = redis.Redis(unix_socket_path=str(self._socket))
        with client:
            while process.poll() is None:
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.02)
                else:
                    return
        with self._log.open("rb") as log:
            log.seek(started)
            output = log.read()[-4_000:].decode("utf-8", "replace").strip()
        raise EmbeddedServerError(f"Valkey did not start:\n{output}")

    def _end_leftovers(self) -> None:
        data = self._home / "data"
        left = []
        for process in psutil.process_iter():
            try:
                if process.name().startswith("valkey") and Path(process.cwd()) in (
                    data,
                    data.resolve(),
                ):
                    left.append(process)
            except (psutil.Error, OSError):
                continue
        for process in left:
            process.terminate()
        _, left = psutil.wait_procs(left, timeout=_STOP_PATIENCE_S)
        if left:
            raise EmbeddedServerError(f"a Valkey of an earlier run in {data} remains")
