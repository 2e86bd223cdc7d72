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


# Each table is one object: compared as such, it costs nothing as a key.
@dataclass(frozen=True, slots=True, eq=False)
class RowTable:
    """A table of one row for each shown record of a collection.

    The columns begin with actor, rkey; or with actor alone where an account has one
    row at most (`single`). `count` is the number of `stats` that its rows are counted
    in.
    """

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    single: bool = False
    count: int | None = None

    @property
    def dated(self) -> bool:
        """Whether rows remember when they were first seen."""
        return "indexed_at" in self.columns


POST: Final = RowTable(
    "post",
    (
        *("actor", "rkey", "sort_at", "created_at", "indexed_at"),
        *("parent_actor", "parent_rkey", "root_actor", "root_rkey", "media", "langs"),
    ),
    (
        *("int4", "int8", "timestamptz", "timestamptz", "timestamptz"),
        *("int4", "int8", "int4", "int8", "int2", "text[]"),
    ),
    count=stats.POSTS,
)
PROFILE: Final = RowTable(
    "profile",
    (
        *("actor", "display_name", "description", "avatar", "banner"),
        *("created_at", "indexed_at"),
    ),
    ("int4", "text", "text", "bytea", "bytea", "timestamptz", "timestamptz"),
    single=True,
)
FEED_GENERATOR: Final = RowTable(
    "feed_generator",
    (
        *("actor", "rkey", "service_did", "display_name", "description", "avatar"),
        *("created_at", "indexed_at"),
    ),
    (
        *("int4", "int8", "text", "text", "text", "bytea"),
        *("timestamptz", "timestamptz"),
    ),
    count=stats.FEED_GENERATORS,
)
LIST: Final = RowTable(
    "list",
    (
        *("actor", "rkey", "purpose", "name", "description", "avatar"),
        *("created_at", "indexed_at"),
    ),
    (
        *("int4", "int8", "text", "text", "text", "bytea"),
        *("timestamptz", "timestamptz"),
    ),
    count=stats.LISTS,
)
LIST_ITEM: Final = RowTable(
    "list_item",
    ("actor", "rkey", "list_actor", "list_rkey", "subject"),
    ("int4", "int8", "int4", "int8", "int4"),
)
STARTER_PACK: Final = RowTable(
    "starter_pack",
    (
        *("actor", "rkey", "name", "description", "list_actor", "list_rkey"),
        *("created_at", "indexed_at"),
    ),
    (
        *("int4", "int8", "text", "text", "int4", "int8"),
        *("timestamptz", "timestamptz"),
    ),
    count=stats.STARTER_PACKS,
)
LABELER: Final = RowTable(
    "labeler",
    ("actor", "created_at", "indexed_at"),
    ("int4", "timestamptz", "timestamptz"),
    single=True,
)


def insert_rows(conn: Conn, table: RowTable, rows: Sequence[Row]) -> None:
    """Append rows; their keys must be free."""
    copy_rows(conn, table.name, table.columns, table.types, rows)


def delete_rows(
    conn: Conn, table: RowTable, keys: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], datetime | None]:
    """Remove the rows of records (actor, rkey); return those that were there, with
    the time they were first seen."""
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
    """The rows of these records of one account, in the order of `table.columns`; of a
    `single` table its only one."""
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
    """Table -> rows that an account has in it. One statement."""
    if not tables:
        return {}
    queries = (
        f"SELECT '{name}', count(*) FROM {name} WHERE actor = %(actor)s"
        for name in tables
    )
    return dict(conn.execute(" UNION ALL ".join(queries), {"actor": actor}).fetchall())
