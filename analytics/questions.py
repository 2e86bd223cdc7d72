"""Bounded, read-only SQL over the views of the schema `analytics`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg.conninfo import make_conninfo

from analytics.reader_role import READER
from storage.postgres.pool import Conn, connect


class QuestionError(Exception):
    """A statement that the database refused or stopped."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one statement."""

    rows: int = 10_000
    seconds: float = 30.0
    memory_mb: int = 64
    """Memory of each sort or hash, before it goes to disk."""
    disk_mb: int = 2_000
    """Size of temporary files, of a superuser's connection."""


@dataclass(frozen=True, slots=True)
class Result:
    """Columns and rows; `cut` is True if there were more rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    cut: bool = False


def open_reader(url: str) -> Conn:
    """Open a connection as the reader; the caller closes it.

    Where the server does not let it log in, the connection is that of `url`, and only
    `ask` takes the rights of the reader: a statement could take back those of `url`.
    """
    try:
        return connect(make_conninfo(url, user=READER))
    except psycopg.OperationalError:
        return connect(url)


def ask(conn: Conn, statement: str, bounds: Bounds | None = None) -> Result:
    """Run one statement as the reader, in a read-only transaction, and roll it back.

    Raises QuestionError.
    """
    bounds = bounds or Bounds()
    if "\0" in statement or not statement.strip():
        raise QuestionError("the statement is empty or contains a NUL character")
    try:
        with _read_only(conn, bounds):
            return _fetch(conn, statement, bounds.rows)
    except psycopg.errors.QueryCanceled:
        raise QuestionError(
            f"stopped after {bounds.seconds:g} seconds; narrow the statement or raise"
            " the limit"
        ) from None
    except psycopg.Error as error:
        raise QuestionError(str(error).strip()) from error


def _fetch(conn: Conn, statement: str, most: int) -> Result:
    rows: list[tuple[Any, ...]] = []
    with conn.cursor() as cursor:
        # Streamed rows use the protocol that takes one statement only.
        stream = cast(
            Generator[tuple[Any, ...], None, None], cursor.stream(statement.encode())
        )
        with closing(stream):
            for row in stream:
                if len(rows) == most:
                    return Result(_names(cursor), rows, cut=True)
                rows.append(row)
        return Result(_names(cursor) or _describe(conn, statement), rows)


def _names(cursor: psycopg.Cursor[Any]) -> tuple[str, ...]:
    return tuple(column.name for column in cursor.description or ())


def _describe(conn: Conn, statement: str) -> tuple[str, ...]:
    """Return the columns of a statement that gave no rows."""
    conn.pgconn.prepare(b"", statement.encode())
    result = conn.pgconn.describe_prepared(b"")
    return tuple((result.fname(n) or b"").decode() for n in range(result.nfields))


@contextmanager
def _read_only(conn: Conn, bounds: Bounds) -> Iterator[None]:
    conn.rollback()
    try:
        conn.execute("SET TRANSACTION READ ONLY")
        row = conn.execute(
            "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        settings = {
            "statement_timeout": f"{max(1, int(bounds.seconds * 1_000))}ms",
            "work_mem": f"{bounds.memory_mb}MB",
            "hash_mem_multiplier": "1",
            "max_parallel_workers_per_gather": "0",
            "search_path": "analytics",
        }
        if row == (True,):
            settings["temp_file_limit"] = f"{bounds.disk_mb}MB"
        for name, value in settings.items():
            conn.execute("SELECT set_config(%s, %s, true)", (name, value))
        conn.execute(f"SET LOCAL ROLE {READER}")
        yield
    finally:
        if not conn.closed:
            conn.rollback()
