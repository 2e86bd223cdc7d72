"""`bigworld db …`: back up, restore, migrate and recount the databases."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import psycopg
import typer

from analytics.reader_role import make_reader
from audit.repo_audit import recount_stats
from service.cli.groups import AsJson, make_group, read_config
from service.operator_errors import FolderInUseError, ServiceError
from service.runtime.config import Config
from service.runtime.databases import (
    INDEX,
    PDS,
    PLC,
    PRIVATE,
    database_name,
    embedded_postgres,
    is_current,
    newest_version,
    open_existing,
    own_url,
    require_data,
)
from service.runtime.databases import migrate as migrate_database
from service.runtime.embedded.binaries import wheel_postgres
from service.runtime.home import make_home
from service.runtime.secrets import PRIVATE_STATE
from storage.change_log import forget_all_readers

_EMBEDDED: Final = ((INDEX, ""), (PRIVATE, ""), (PLC, ""), (PDS, "a"), (PDS, "b"))
_MANIFEST: Final = "backup.json"
_PRIVATE_FOLDER: Final = "secrets"
_STATE_FILE: Final = "society.json"

app = make_group("db")


@app.command("backup")
def backup_command(
    folder: Annotated[Path, typer.Argument(help="A new folder; it will hold keys.")],
    as_json: AsJson = False,
) -> None:
    """Save every database and the secrets while everything runs."""
    manifest = backup(read_config(), folder)
    if as_json:
        typer.echo(json.dumps(manifest))
    else:
        for name, size in manifest["databases"].items():
            typer.echo(f"{name}: {size} bytes")


@app.command("restore")
def restore_command(
    folder: Annotated[Path, typer.Argument(help="A folder that `db backup` wrote.")],
) -> None:
    """Restore a backup into an empty home; nothing is overwritten."""
    for name in restore(read_config(), folder):
        typer.echo(f"{name}: restored")


@app.command()
def migrate() -> None:
    """Bring every database to this version's tables.

    Processes do this when they start, unless BIGWORLD_MIGRATE is off.
    """
    config = read_config()
    require_data(config)
    for name, target, url in _databases(config):
        before = is_current(url, target)
        migrate_database(url, target)
        result = "current already" if before else "migrated"
        typer.echo(f"{name}: {result} ({newest_version(target)})")


@app.command()
def recount() -> None:
    """Recount likes, followers … and correct the stored counts."""
    with (
        open_existing(read_config(), INDEX, start=True) as url,
        psycopg.connect(url) as conn,
    ):
        for table, wrong in recount_stats(conn, repair=True).wrong.items():
            typer.echo(f"{table}: {wrong} rows corrected")


def backup(config: Config, folder: Path) -> dict[str, Any]:
    """Write every database and the secrets into a new folder; return the manifest.

    Each database is dumped from one snapshot. The folder holds keys and passwords, so
    that only its owner may read it.
    """
    require_data(config)
    if folder.exists() and any(folder.iterdir()):
        raise ServiceError(f"{folder} is not empty; give a new folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    dumps: dict[str, int] = {}
    saved: set[str] = set()
    for name, _, url in _databases(config):
        if url in saved:
            continue  # private state beside the index
        saved.add(url)
        _run_tool("pg_dump", "--format=custom", f"--file={folder / name}.dump", url)
        (folder / f"{name}.dump").chmod(0o600)
        dumps[name] = (folder / f"{name}.dump").stat().st_size
    _copy_private(config.home, folder)
    manifest = {"made_at": int(time.time()), "databases": dumps}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def restore(config: Config, folder: Path) -> list[str]:
    """Restore a backup into an empty home; return the names of the databases.

    Raises ServiceError where the home or the database is not empty.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
    except FileNotFoundError:
        raise ServiceError(f"{folder} holds no backup") from None
    names = list(manifest["databases"])
    own = {
        name: url
        for target in (INDEX, PRIVATE)
        if (name := database_name(target)) in names
        and (url := own_url(config, target)) is not None
    }
    if config.database_url is not None:
        if database_name(INDEX) not in own:
            raise ServiceError(f"{folder} holds no index; it has {', '.join(names)}")
        make_home(config.home)
        _copy_private_key(folder, config.home)
        _restore_databases(own, folder)
        return [*own]
    if (config.home / "postgres").exists() or (config.home / _PRIVATE_FOLDER).exists():
        raise ServiceError(f"{config.home} is not empty; restore into a new home")
    make_home(config.home)
    _copy_private(folder, config.home)
    with embedded_postgres(config) as server:
        for name in names:
            if name not in own:
                server.ensure_database(name)
        urls = {name: server.url(name) for name in names}
        _restore_databases(urls | own, folder)
    return names


def _copy_private_key(folder: Path, home: Path) -> None:
    """Copy the secret that private state is encrypted with.

    Raises ServiceError if the home has another one.
    """
    source = folder / _PRIVATE_FOLDER / PRIVATE_STATE
    target = home / _PRIVATE_FOLDER / PRIVATE_STATE
    if not source.exists():
        return
    if not target.exists():
        target.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copy2(source, target)
    elif source.read_bytes() != target.read_bytes():
        raise ServiceError(
            f"{target} is not the secret of this backup; private state of the backup"
            " could not be read; restore into a new home"
        )


def _copy_private(source: Path, target: Path) -> None:
    if (source / _PRIVATE_FOLDER).is_dir():
        shutil.copytree(source / _PRIVATE_FOLDER, target / _PRIVATE_FOLDER)
    if (source / _STATE_FILE).exists():
        shutil.copy2(source / _STATE_FILE, target / _STATE_FILE)


def _restore_databases(urls: dict[str, str], folder: Path) -> None:
    """Restore the dumps of a backup, each to its URL; some may share a database."""
    for name, url in urls.items():
        with psycopg.connect(url) as conn:
            row = conn.execute(
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
            ).fetchone()
        if row is not None and row[0]:
            raise ServiceError(f"the database {name} has tables already")
    for name, url in urls.items():
        _run_tool(
            "pg_restore",
            *("--exit-on-error", "--single-transaction"),
            *("--no-owner", "--no-privileges"),
            *(f"--dbname={url}", str(folder / f"{name}.dump")),
        )
        if name == database_name(INDEX):
            with psycopg.connect(url) as conn:
                make_reader(conn)
                conn.commit()
                # Exports are ahead of the backup: they start over.
                forget_all_readers(conn)


def _databases(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield the name, migration target and URL of each database that exists."""
    for target in (INDEX, PRIVATE):
        url = own_url(config, target)
        if url is not None:
            yield database_name(target), target, url
    if config.database_url is not None:
        return
    with _running_postgres(config) as server:
        with psycopg.connect(server.url()) as conn:
            rows = conn.execute("SELECT datname FROM pg_database").fetchall()
        present = {row[0] for row in rows}
        for target, part in _EMBEDDED:
            name = database_name(target, part)
            if name in present and own_url(config, target) is None:
                yield name, target, server.url(name)


@contextmanager
def _running_postgres(config: Config) -> Iterator[Any]:
    server = embedded_postgres(config)
    try:
        if not server.attach():
            server.start()
        yield server
    except FolderInUseError as error:
        raise ServiceError(f"{error}; try again in a moment") from error
    finally:
        server.stop()


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
