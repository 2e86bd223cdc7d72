"""Databases for tests: copied from migrated templates, then emptied and used again.

A copy costs ten times what emptying does, and more than most tests.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from service.runtime.embedded import EmbeddedPostgres
from storage import migrate
from storage.postgres.pool import Conn

_MOST_GROWTH: Final = 1 << 20
"""Bytes of tables by which a used database may exceed its template."""

_CLOSING_S: Final = 0.5
"""Time that a test's connections have to end."""

_TABLES: Final = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY oid
"""
_SHAPE: Final = """
    SELECT count(*), max(oid), sum(relnatts), sum(relchecks), sum(reltuples)
    FROM pg_class
"""
_SIZE: Final = "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
_REWIND: Final = """
    SELECT setval(format('%I', sequencename)::regclass, start_value, false)
    FROM pg_sequences WHERE last_value IS NOT NULL
"""
_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class _Template:
    """A migrated database: its rows as COPY data, and what tells it from others."""

    name: str
    tables: list[str]
    rows: dict[str, bytes]
    shape: tuple[Any, ...]
    size: int


class Databases:
    """The databases of one server."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._templates: dict[str, _Template] = {}
        self._idle: dict[str, list[str]] = defaultdict(list)
        self._targets: dict[str, str] = {}

    def make(self, target: str | None) -> str:
        """Return the URL of a database as migrated to `target`, or an empty one."""
        if target is None:
            return self._create("empty", None)
        if target not in self._templates:
            self._templates[target] = self._migrate(target)
        if self._idle[target]:
            return self._idle[target].pop()
        url = self._create(target, self._templates[target].name)
        self._targets[url] = target
        return url

    def drop(self, url: str) -> None:
        """Keep the database for another test if it can be emptied; else drop it."""
        target = self._targets.get(url)
        if target is not None and _empty(url, self._templates[target]):
            self._idle[target].append(url)
            return
        database = url.removeprefix("postgresql://postgres@/").partition("?")[0]
        with psycopg.connect(self._server.url(), autocommit=True) as conn:
            conn.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                    sql.Identifier(database)
                )
            )

    def _create(self, name: str, template: str | None) -> str:
        database = f"{name}_{next(self._numbers)}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(template)
            )
        with psycopg.connect(self._server.url(), autocommit=True) as conn:
            conn.execute(statement)
        return self._server.url(database)

    def _migrate(self, target: str) -> _Template:
        name = f"template_{target}"
        self._server.ensure_database(name)
        migrate.upgrade(self._server.url(name), target)
        if target == "index":
            # Beside it, as on a PostgreSQL of the user's own.
            migrate.upgrade(self._server.url(name), "private")
        with psycopg.connect(self._server.url(name)) as conn:
            tables = [table for (table,) in conn.execute(_TABLES)]
            rows = {table: _copy_out(conn, table) for table in tables}
            return _Template(
                name,
                tables,
                {table: data for table, data in rows.items() if data},
                _one(conn, _SHAPE),
                _one(conn, _SIZE)[0],
            )


def _one(conn: Conn, query: str) -> tuple[Any, ...]:
    row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row


def _copy_out(conn: Conn, table: str) -> bytes:
    with conn.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
        return b"".join(copy)


def _empty(url: str, template: _Template) -> bool:
    """Return True if the database now equals its template."""
    with psycopg.connect(url) as conn:
        end = time.monotonic() + _CLOSING_S
        while _one(conn, _OTHERS) != (0,):
            if time.monotonic() > end:
                return False
            conn.rollback()
            time.sleep(0.01)
        if _one(conn, _SHAPE) != template.shape:
            return False
        if _one(conn, _SIZE)[0] > template.size + _MOST_GROWTH:
            return False
        # Without the checks of foreign keys, tables may be emptied in any order.
        statements = ["SET session_replication_role = replica"]
        statements += [f"DELETE FROM {table}" for table in template.tables]
        conn.execute("; ".join(statements).encode())
        for table, data in template.rows.items():
            with conn.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                copy.write(data)
        conn.execute(_REWIND)
    return True
