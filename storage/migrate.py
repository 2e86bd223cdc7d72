"""Migrations of the three databases (index, pds, plc), and the check that the tables
described in code are the tables that the migrations make."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.records.record_codec import store_dictionary

_MIGRATIONS: Final = Path(__file__).resolve().parents[1] / "migrations"

TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "index": ("storage.schema", "search.schema", "feeds.schema", "appview.schema"),
    "pds": ("pds.tables",),
    "plc": ("plc.schema",),
}
"""Database name -> modules whose `metadata` describes its tables. Named, not imported:
storage stands below them. A module that does not exist is passed over."""


def upgrade(url: str, name: str) -> None:
    """Bring the database at `url` to the newest version of target `name`.

    Safe to run from several processes at once: they queue on an advisory lock. The
    index database also gets the shipped compression dictionary.
    """
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_advisory_lock(hashtext('migrate'))"))
            # The lock is the session's: it outlives the commits of the migrations.
            connection.commit()
            try:
                command.upgrade(alembic_config(name, connection), "head")
            finally:
                connection.rollback()
                connection.execute(
                    sa.text("SELECT pg_advisory_unlock(hashtext('migrate'))")
                )
                connection.commit()
    finally:
        engine.dispose()
    if name == "index":
        with psycopg.connect(url) as conn:
            store_dictionary(conn)


def check(url: str, name: str) -> list[str]:
    """Differences between the tables in code and those of the migrated database.

    Empty when they are equal. Partitions are left out: Alembic cannot compare them.
    """
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "version_table": version_table(name),
                    "include_name": _include_name(connection),
                    "compare_type": True,
                    "compare_server_default": True,
                },
            )
            differences: list[Any] = []
            differences.extend(compare_metadata(context, merged_metadata(name)))
            return [str(difference) for difference in differences]
    finally:
        engine.dispose()


def current(url: str, name: str) -> str | None:
    """The version that the database is at; None when it was never migrated."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"version_table": version_table(name)}
            )
            return context.get_current_revision()
    finally:
        engine.dispose()


def head(name: str) -> str | None:
    """The newest version that the code knows."""
    return ScriptDirectory.from_config(alembic_config(name, None)).get_current_head()


def version_table(name: str) -> str:
    """Where a target keeps its version, so that targets may share a database."""
    return f"alembic_version_{name}"


def alembic_config(name: str, connection: sa.Connection | None) -> Config:
    """Alembic's settings for a target, made in code: there is no alembic.ini."""
    if name not in TARGETS:
        raise ValueError(f"unknown database {name!r}; one of {', '.join(TARGETS)}")
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(_MIGRATIONS / name / "versions"))
    config.attributes["target"] = name
    config.attributes["connection"] = connection
    return config


def merged_metadata(name: str) -> sa.MetaData:
    """All tables of a target in one MetaData."""
    modules = [
        importlib.import_module(module_name)
        for module_name in TARGETS[name]
        if importlib.util.find_spec(module_name) is not None
    ]
    convention = modules[0].metadata.naming_convention if modules else None
    merged = sa.MetaData(naming_convention=convention)
    for module in modules:
        for table in module.metadata.tables.values():
            if table.key not in merged.tables:
                table.to_metadata(merged)
    return merged


def _include_name(connection: sa.Connection) -> Any:
    """Alembic's name filter: every table but partitions and version tables."""
    partitions = set(
        connection.execute(
            sa.text("SELECT relname FROM pg_class WHERE relispartition")
        ).scalars()
    )
    ignored = partitions | {version_table(name) for name in TARGETS}

    def include(name: str | None, type_: str, parent_names: Any) -> bool:
        return not (type_ == "table" and name in ignored)

    return include


def _engine(url: str) -> sa.Engine:
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres"):
        raise ValueError("a database URL begins with postgresql://")
    return sa.create_engine(f"postgresql+psycopg://{rest}", poolclass=sa.NullPool)
