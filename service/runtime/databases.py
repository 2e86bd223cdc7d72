"""Databases and brokers of a process: external, already running, or started here."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import conninfo, sql

from service.operator_errors import ConfigError, FolderInUseError, NoDatabaseError
from service.runtime.config import Config

# Most processes of a running network need neither the embedded servers nor the
# migrations; their large libraries are imported where they are used.
if TYPE_CHECKING:
    from service.runtime.embedded import EmbeddedPostgres, EmbeddedValkey

# Target of the migrations -> name of the database on the embedded server.
INDEX = "index"
PRIVATE = "private"
PLC = "plc"
PDS = "pds"
_MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
_VERSION_LINE = re.compile(
    r"""^(revision|down_revision)(?:: [^=]+)? = ["'](\w+)["']""", re.MULTILINE
)
_INDEX_DATABASE = "bigworld"
_PATIENCE_S = 60.0
_CONNECTIONS = 200
_CONNECTIONS_A_PROCESS = 50
"""The pools of a process of `serve` together, rounded up."""


def database_name(target: str, part: str = "") -> str:
    """Return the name of a target's database; `part` is the letter of a PDS."""
    return (
        _INDEX_DATABASE if target == INDEX else "_".join(filter(None, (target, part)))
    )


@dataclass(frozen=True, slots=True)
class Database:
    """A database of `up`: its migration target and, for a PDS, its letter."""

    target: str
    part: str = ""

    @property
    def name(self) -> str:
        return database_name(self.target, self.part)


def sibling_database(index_url: str, database: Database) -> str:
    """Return the URL of a database on the external server; create it if missing."""
    if database.target == INDEX:
        return index_url
    parameters = conninfo.conninfo_to_dict(index_url)
    name = f"{parameters.get('dbname') or 'bigworld'}_{database.name}"
    with psycopg.connect(index_url, autocommit=True) as conn:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if conn.execute(query, (name,)).fetchone() is None:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    base, question, options = index_url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}{question}{options}"


def embedded_postgres(config: Config) -> EmbeddedPostgres:
    """Return the embedded server of this home, not started."""
    from service.runtime.embedded import EmbeddedPostgres
    from service.runtime.embedded.binaries import machine_postgres

    binaries: Path | None = None
    if config.machine_postgres:
        binaries = machine_postgres()
        if binaries is None:
            raise ConfigError(
                "machine_postgres: no PostgreSQL 17 or newer is installed"
            )
    # Half as many again as with one process: for two, and for each one more.
    more = _CONNECTIONS_A_PROCESS * max(0, config.serve_process_count - 2)
    settings = {"max_connections": str(_CONNECTIONS + more)}
    return EmbeddedPostgres(
        config.home / "postgres", binaries=binaries, settings=settings
    )


def embedded_valkey(config: Config) -> EmbeddedValkey:
    """Return the embedded broker of this home, not started."""
    from service.runtime.embedded import EmbeddedValkey

    return EmbeddedValkey(config.home / "valkey")


def own_url(config: Config, target: str) -> str | None:
    """Return the URL of a database on the user's own server, None for an embedded one.

    Private state lies beside the index unless it has a URL of its own.
    """
    url = config.database_url
    if target == PRIVATE:
        url = config.private_database_url or url
    return url.get_secret_value() if url is not None else None


@contextmanager
def open_database(config: Config, target: str, part: str = "") -> Iterator[str]:
    """Yield the URL of a migrated database of `target`.

    It is DATABASE_URL if set, else one on the embedded server of this home, which is
    started unless `bigworld up` runs it already.
    """
    url = own_url(config, target)
    if url is not None:
        _migrate_if_due(config, url, target)
        yield url
        return
    server = embedded_postgres(config)
    _attach_or_start(server)
    try:
        name = database_name(target, part)
        server.ensure_database(name)
        _migrate_if_due(config, server.url(name), target)
        yield server.url(name)
    finally:
        server.stop()


@contextmanager
def open_existing(config: Config, target: str, *, start: bool = False) -> Iterator[str]:
    """Yield the URL of an existing database; never create or migrate one.

    With `start` the embedded server is started if necessary. Raises NoDatabaseError
    with the command that creates what is missing.
    """
    if config.database_url is not None:
        url = config.database_url.get_secret_value()
        _check_existing(url, target, "the database at DATABASE_URL")
        yield url
        return
    require_data(config)
    server = embedded_postgres(config)
    if start:
        _attach_or_start(server)
    elif not server.attach():
        raise NoDatabaseError(
            f"nothing runs in {config.home}: start it with `bigworld up`"
        )
    try:
        url = server.url(database_name(target))
        _check_existing(url, target, f"the database in {config.home}")
        yield url
    finally:
        server.stop()


def require_data(config: Config) -> None:
    """Raise NoDatabaseError if this home has no database."""
    if config.database_url is None and not (config.home / "postgres/data").is_dir():
        raise NoDatabaseError(
            f"{config.home} holds no data yet: `bigworld up` creates it"
            " (or set BIGWORLD_HOME to another home)"
        )


def _check_existing(url: str, target: str, where: str) -> None:
    try:
        if is_current(url, target):
            return
    except psycopg.Error as error:
        detail = str(error).strip().partition("\n")[0]
        raise NoDatabaseError(f"{where} does not answer: {detail}") from error
    raise NoDatabaseError(
        f"{where} has no tables of this version: run `bigworld db migrate` or"
        " `bigworld up`"
    )


@contextmanager
def open_broker(config: Config) -> Iterator[str]:
    """Yield the broker URL in Celery's form, chosen as in `open_database`."""
    if config.broker_url is not None:
        yield config.broker_url.get_secret_value()
        return
    server = embedded_valkey(config)
    _attach_or_start(server)
    try:
        yield server.celery_url()
    finally:
        server.stop()


def newest_version(target: str) -> str:
    """Return the newest migration of a target."""
    names: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for path in (_MIGRATIONS / target / "versions").glob("*.py"):
        for name, found in _VERSION_LINE.findall(path.read_text()):
            names[name].add(found)
    (newest,) = names["revision"] - names["down_revision"]
    return newest


def is_current(url: str, target: str) -> bool:
    """Return True if the database is at the newest version."""
    query = sql.SQL("SELECT version_num FROM {}").format(
        sql.Identifier(f"alembic_version_{target}")
    )
    try:
        with psycopg.connect(url) as conn:
            return conn.execute(query).fetchall() == [(newest_version(target),)]
    except psycopg.errors.UndefinedTable:
        return False


def migrate(url: str, target: str) -> None:
    """Bring a database to the newest version."""
    from storage.migrate import upgrade

    upgrade(url, target)


def _migrate_if_due(config: Config, url: str, target: str) -> None:
    if config.migrate and not is_current(url, target):
        migrate(url, target)


def _attach_or_start(server: EmbeddedPostgres | EmbeddedValkey) -> None:
    """Attach to the running server or start it; wait while another process does."""
    deadline = time.monotonic() + _PATIENCE_S
    while not server.attach():
        try:
            server.start()
        except FolderInUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
