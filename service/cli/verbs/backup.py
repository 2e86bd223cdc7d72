"""`bigworld export`, `backup`, `restore`: taking data out and putting it back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from indexer.repos.export import open_export
from protocol.errors import ProtocolError
from protocol.syntax.did import Did
from service.operator_errors import FolderInUseError, ServiceError
from service.runtime.config import Config
from service.runtime.databases import (
    INDEX,
    PDS,
    PLC,
    database_name,
    embedded_postgres,
    open_existing,
    require_data,
)
from service.runtime.embedded.binaries import wheel_postgres
from service.runtime.home import make_home
from storage.repos.repo_rows import find_repos

_EMBEDDED = ((INDEX, ""), (PLC, ""), (PDS, "a"), (PDS, "b"))
_MANIFEST = "backup.json"
_PRIVATE_FOLDER = "secrets"
_STATE_FILE = "society.json"


def export_repo(config: Config, did: Did, path: Path) -> int:
    """Write an account's whole repo as a CAR file; returns its size in bytes."""
    with open_existing(config, INDEX, start=True) as url, psycopg.connect(url) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.read_only = True
        known = find_repos(conn, [did]).get(did)
        if known is None:
            raise ServiceError(f"{did} is not in the index")
        draft = path.with_name(path.name + ".part")
        try:
            with draft.open("wb") as file, open_export(conn, known.actor) as pieces:
                for piece in pieces:
                    file.write(piece)
                size = file.tell()
        except ProtocolError as error:
            draft.unlink(missing_ok=True)
            raise ServiceError(f"{did} cannot be exported: {error}") from error
        draft.replace(path)
    return size


def backup(config: Config, folder: Path) -> dict[str, Any]:
    """Write every database and the secrets into a new folder; returns the manifest.

    Each database is dumped from one snapshot while everything runs on. The folder
    holds keys and passwords: it is readable by us only.
    """
    require_data(config)
    if folder.exists() and any(folder.iterdir()):
        raise ServiceError(f"{folder} is not empty; name a new folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    dumps = {}
    for name, url in _databases(config):
        _run_tool("pg_dump", "--format=custom", f"--file={folder / name}.dump", url)
        (folder / f"{name}.dump").chmod(0o600)
        dumps[name] = (folder / f"{name}.dump").stat().st_size
    secrets = config.home / _PRIVATE_FOLDER
    if secrets.is_dir():
        shutil.copytree(secrets, folder / _PRIVATE_FOLDER)
    if (config.home / _STATE_FILE).exists():
        shutil.copy2(config.home / _STATE_FILE, folder / _STATE_FILE)
    manifest = {"made_at": int(time.time()), "databases": dumps}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def restore(config: Config, folder: Path) -> list[str]:
    """Put a backup into an empty home; returns the names of the databases.

    Refuses where there is something already: a restore never overwrites.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
    except FileNotFoundError:
        raise ServiceError(f"{folder} holds no backup") from None
    names = list(manifest["databases"])
    if config.database_url is not None:
        index = database_name(INDEX)
        if index not in names:
            raise ServiceError(f"{folder} holds no index; it has {', '.join(names)}")
        _restore_database(config.database_url.get_secret_value(), folder, index)
        return [index]
    if (config.home / "postgres").exists() or (config.home / _PRIVATE_FOLDER).exists():
        raise ServiceError(f"{config.home} is not empty; restore into a new home")
    make_home(config.home)
    if (folder / _PRIVATE_FOLDER).is_dir():
        shutil.copytree(folder / _PRIVATE_FOLDER, config.home / _PRIVATE_FOLDER)
    if (folder / _STATE_FILE).exists():
        shutil.copy2(folder / _STATE_FILE, config.home / _STATE_FILE)
    with embedded_postgres(config) as server:
        for name in names:
            server.ensure_database(name)
            _restore_database(server.url(name), folder, name)
    return names


def _restore_database(url: str, folder: Path, name: str) -> None:
    with psycopg.connect(url) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone()
    if row is not None and row[0]:
        raise ServiceError(f"the database {name} has tables already")
    _run_tool(
        "pg_restore",
        *("--exit-on-error", "--single-transaction", "--no-owner"),
        *(f"--dbname={url}", str(folder / f"{name}.dump")),
    )


@contextmanager
def _running(config: Config) -> Iterator[Any]:
    server = embedded_postgres(config)
    try:
        if not server.attach():
            server.start()
        yield server
    except FolderInUseError as error:
        raise ServiceError(f"{error}; try again in a moment") from error
    finally:
        server.stop()


def _databases(config: Config) -> Iterator[tuple[str, str]]:
    """(name, URL) of what there is to save."""
    if config.database_url is not None:
        yield database_name(INDEX), config.database_url.get_secret_value()
        return
    with _running(config) as server:
        with psycopg.connect(server.url()) as conn:
            rows = conn.execute("SELECT datname FROM pg_database").fetchall()
        present = {row[0] for row in rows}
        for target, part in _EMBEDDED:
            name = database_name(target, part)
            if name in present:
                yield name, server.url(name)


def _run_tool(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own tools from the wheel."""
    result = subprocess.run(
        [wheel_postgres() / name, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if result.returncode != 0:
        raise ServiceError(f"{name} failed: {result.stderr.strip()[-1_000:]}")
