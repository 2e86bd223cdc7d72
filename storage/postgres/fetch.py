"""Short forms of common queries."""

from __future__ import annotations

from typing import Any, TypeVar

from psycopg.abc import Params
from psycopg.rows import class_row

from storage.postgres.pool import Conn

T = TypeVar("T")


def fetch_value(conn: Conn, query: str, params: Params | None = None) -> Any:
    """Return the first column of the only row."""
    row = conn.execute(query, params).fetchone()
    assert row is not None, "the query returns one row"
    return row[0]


def fetch_int(conn: Conn, query: str, params: Params | None = None) -> int:
    """Return the integer in the first column of the only row."""
    return int(fetch_value(conn, query, params))


def fetch_all(
    conn: Conn, kind: type[T], query: str, params: Params | None = None
) -> list[T]:
    """Return all rows as objects of a dataclass, whose fields are the columns."""
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        cursor.execute(query, params)
        return cursor.fetchall()
