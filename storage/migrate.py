"""Migrations of the databases, and the check that they make the tables of the code."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
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
    "index": (
        "storage.schema",
        "search.tables",
        "search.matches.match_tables",
        "feeds.feed_tables",
    ),
    "private": ("storage.private.private_tables", "storage.private.moderation_tables"),
    "pds": ("pds.tables",),
    "plc": ("plc.schema",),
}
"""Database name -> modules whose `metadata` describes its tables. They are imported by
name, since storage is below them."""


def upgrade(url: str, name: str) -> None:
    """Migrate the database at `url` to the newest version of target `name`.

    Several processes may call it at once: they queue on an advisory lock. The index
    database also gets the shipped compression dictionary.
    """
    with _connected(url) as connection:
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
    if name == "index":
        with psycopg.connect(url) as conn:
            store_dictionary(conn)


def check(url: str, name: str) -> list[str]:
    """Return the differences between the tables in code and the migrated database.

    Partitions are left out, which Alembic cannot compare, and tables of other targets.
    """
    with _connected(url) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": version_table(name),
                "include_name": _include_name(connection, name),
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        differences: list[Any] = []
        differences.extend(compare_metadata(context, merged_metadata(name)))
        return [str(difference) for difference in differences]


def current(url: str, name: str) -> str | None:
    """Return the version of the database; None if it was never migrated."""
    with _connected(url) as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": version_table(name)}
        )
        return context.get_current_revision()


def head(name: str) -> str | None:
    """Return the newest version that the code knows."""
    return ScriptDirectory.from_config(alembic_config(name, None)).get_current_head()


def version_table(name: str) -> str:
    """Return the table of a target's version; targets may share a database."""
    return f"alembic_version_{name}"


def alembic_config(name: str, connection: sa.Connection | None) -> Config:
    """Return the Alembic settings of a target; there is no alembic.ini."""
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
    """Return all tables of a target in one MetaData; raises ImportError."""
    modules = [importlib.import_module(module) for module in TARGETS[name]]
    merged = sa.MetaData(naming_convention=modules[0].metadata.naming_convention)
    for module in modules:
        for table in module.metadata.tables.values():
            if table.key not in merged.tables:
                table.to_metadata(merged)
    return merged


def _include_name(connection: sa.Connection, target: str) -> Any:
    """Return Alembic's name filter, without partitions and version tables."""
    partitions = set(
        connection.execute(
            sa.text("SELECT relname FROM pg_class WHERE relispartition")
        ).scalars()
    )
    ignored = partitions | {version_table(name) for name in TARGETS}
    others = {table for name in TARGETS for table in merged_metadata(name).tables}
    ignored |= others - merged_metadata(target).tables.keys()

    def include(name: str | None, type_: str, parent_names: Any) -> bool:
        return not (type_ == "table" and name in ignored)

    return include


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres"):
        raise ValueError("a database URL begins with postgresql://")
    engine = sa.create_engine(f"postgresql+psycopg://{rest}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection
