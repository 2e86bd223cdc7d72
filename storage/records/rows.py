"""Rows of the narrow tables that collections keep beside their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from storage.postgres.arrays import int_array, int_columns
from storage.postgres.copy import Row, copy_rows
from storage.postgres.pool import Conn
from storage.records import stats


# Compared by identity, which makes it a cheap key.
@dataclass(frozen=True, slots=True, eq=False)
class RowTable:
    """A table with one row for each indexed record of a collection.

    The columns begin with actor, rkey; with actor alone if an account has at most one
    row (`single`). Columns of `optional` may be NULL. `count` is the number of `stats`
    that counts its rows.
    """

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    optional: frozenset[str] = frozenset()
    single: bool = False
    count: int | None = None

    @property
    def dated(self) -> bool:
        """Return True if rows have the time of first indexing."""
        return "indexed_at" in self.columns


def _table(
    name: str, columns: str, *, single: bool = False, count: int | None = None
) -> RowTable:
    pairs = [column.split() for column in columns.split(",")]
    names, types = zip(*pairs, strict=True)
    optional = frozenset(column for column, kind in pairs if kind.endswith("?"))
    types = tuple(kind.rstrip("?") for kind in types)
    return RowTable(name, names, types, optional, single, count)


POST: Final = _table(
    "post",
    "actor int4, rkey int8, sort_at timestamptz, created_at timestamptz,"
    " indexed_at timestamptz, parent_actor int4?, parent_rkey int8?, root_actor int4?,"
    " root_rkey int8?, media int2, langs text[]?",
    count=stats.POSTS,
)
PROFILE: Final = _table(
    "profile",
    "actor int4, display_name text?, description text?, avatar bytea?,"
    " banner bytea?, created_at timestamptz?, indexed_at timestamptz",
    single=True,
)
FEED_GENERATOR: Final = _table(
    "feed_generator",
    "actor int4, rkey int8, service_did text, display_name text, description text?,"
    " avatar bytea?, created_at timestamptz, indexed_at timestamptz",
    count=stats.FEED_GENERATORS,
)
LIST: Final = _table(
    "list",
    "actor int4, rkey int8, purpose text, name text, description text?,"
    " avatar bytea?,"
    " created_at timestamptz, indexed_at timestamptz",
    count=stats.LISTS,
)
LIST_ITEM: Final = _table(
    "list_item", "actor int4, rkey int8, list_actor int4, list_rkey int8, subject int4"
)
STARTER_PACK: Final = _table(
    "starter_pack",
    "actor int4, rkey int8, name text, description text?, list_actor int4?,"
    " list_rkey int8?, created_at timestamptz, indexed_at timestamptz",
    count=stats.STARTER_PACKS,
)
LABELER: Final = _table(
    "labeler", "actor int4, created_at timestamptz, indexed_at timestamptz", single=True
)


def insert_rows(conn: Conn, table: RowTable, rows: Sequence[Row]) -> None:
    """Append rows; their keys must be free."""
    copy_rows(conn, table.name, table.columns, table.types, rows)


def delete_rows(
    conn: Conn, table: RowTable, keys: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], datetime | None]:
    """Remove the rows of records (actor, rkey).

    Returns those that existed, with the time they were first indexed.
    """
    if not keys:
        return {}
    first_seen = "t.indexed_at" if table.dated else "NULL::timestamptz"
    if table.single:
        rows = conn.execute(
            f"DELETE FROM {table.name} t WHERE actor = ANY(%s::int4[]) "
            f"RETURNING t.actor, {first_seen}",
            (int_array(actor for actor, _ in keys),),
        ).fetchall()
        rkeys = dict(keys)
        return {(actor, rkeys[actor]): seen for actor, seen in rows}
    rows = conn.execute(
        f"DELETE FROM {table.name} t "
        "USING unnest(%s::int4[], %s::int8[]) AS d (actor, rkey) "
        "WHERE t.actor = d.actor AND t.rkey = d.rkey "
        f"RETURNING t.actor, t.rkey, {first_seen}",
        int_columns(keys, 2),
    ).fetchall()
    return {(actor, rkey): seen for actor, rkey, seen in rows}


def fetch_rows(
    conn: Conn, table: RowTable, actor: int, rkeys: Sequence[int]
) -> list[tuple[Any, ...]]:
    """Return the rows of these records of one account, in the order of `table.columns`.

    Of a `single` table its only one.
    """
    where, values = "actor = %s", [actor]
    if not table.single:
        where += " AND rkey = ANY(%s::int8[])"
        values.append(int_array(rkeys))  # type: ignore[arg-type]
    return conn.execute(
        f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {where}",
        values,
        binary=True,
    ).fetchall()


def count_rows_of(conn: Conn, tables: Sequence[str], actor: int) -> dict[str, int]:
    """Return table -> number of an account's rows, in one statement."""
    if not tables:
        return {}
    queries = (
        f"SELECT '{name}', count(*) FROM {name} WHERE actor = %(actor)s"
        for name in tables
    )
    return dict(conn.execute(" UNION ALL ".join(queries), {"actor": actor}).fetchall())
