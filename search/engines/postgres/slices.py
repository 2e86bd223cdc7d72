"""Time slices: documents in tables of growing size, the newest in the first.

A full slice passes its oldest documents on to the next, a few with each write. Bounds
and documents change in one transaction, so that a repeatable read sees both agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from search.tables import SLICES
from storage.postgres.arrays import int_array, int_columns, text_array
from storage.postgres.instants import from_micros, to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address

CAPS: Final = (32_000, 256_000, 2_000_000, 16_000_000)
"""Documents of each slice; the last slice holds all the rest."""
_CHUNKS: Final = 128
"""A slice passes on at least its 128th part at a time."""


class Key(NamedTuple):
    """The place of a document in time; no two documents share one."""

    micros: int
    actor: int
    collection: int
    rkey: int


@dataclass(frozen=True, slots=True)
class Slice:
    """A row of the catalogue; the documents of a slice are above its bound."""

    number: int
    documents: int
    bound: Key | None

    @property
    def table(self) -> str:
        return f"search_document_{self.number}"


class Row(NamedTuple):
    """A document to write."""

    address: Address
    ts: datetime
    tsv: str


READ_SLICES: Final = (
    "SELECT slice, documents, ts, actor, collection, rkey FROM search_slice"
    " ORDER BY slice"
)


def slices_of(rows: Sequence[Sequence[Any]]) -> list[Slice]:
    """Return the rows of READ_SLICES as slices."""
    return [
        Slice(number, documents, None if ts is None else Key(to_micros(ts), *address))
        for number, documents, ts, *address in rows
    ]


def place(slices: Sequence[Slice], key: Key) -> int:
    """Return the number of the slice that a document belongs to."""
    for one in slices:
        if one.bound is None or key > one.bound:
            return one.number
    return slices[-1].number


def put_rows(conn: Conn, rows: Sequence[Row], caps: Sequence[int]) -> Counter[str]:
    """Insert or replace documents; return the number of removed ones by lexeme."""
    last = {row.address: row for row in rows}
    removed, counts = remove_rows(conn, [*last])
    slices = slices_of(conn.execute(READ_SLICES + " FOR UPDATE").fetchall())
    placed: dict[int, list[Row]] = {}
    for row in last.values():
        key = Key(to_micros(row.ts), *row.address)
        placed.setdefault(place(slices, key), []).append(row)
    for number, some in sorted(placed.items()):
        counts[number] += len(some)
        _insert(conn, number, some)
    for i, one in enumerate(slices[:-1]):
        full = one.documents + counts[i] - caps[i]
        if full >= max(1, caps[0] // _CHUNKS):
            moved = _move_oldest(conn, one, min(full, max(full // 8, 2 * len(last))))
            counts[i] -= moved
            counts[i + 1] += moved
    add_counts(conn, counts)
    return removed


def remove_rows(
    conn: Conn, addresses: Sequence[Address]
) -> tuple[Counter[str], Counter[int]]:
    """Remove documents from any slice; return their number by lexeme and by slice."""
    return _removed(
        conn,
        """
        WITH x AS MATERIALIZED (
            SELECT * FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, r)
        ), """,
        """
        ctid = ANY(ARRAY(SELECT (
            SELECT d.ctid FROM {table} d
            WHERE d.actor = x.a AND d.collection = x.c AND d.rkey = x.r
        ) FROM x))
        """,
        int_columns(addresses, 3),
    )


def remove_authors(
    conn: Conn, actors: Sequence[int]
) -> tuple[Counter[str], Counter[int]]:
    """Remove all documents of accounts, like `remove_rows`."""
    return _removed(
        conn,
        "WITH x AS (SELECT %s::int4[] AS actors), ",
        "actor = ANY((SELECT actors FROM x)::int4[])",
        [int_array(actors)],
    )


def _removed(
    conn: Conn, source: str, where: str, values: Sequence[Any]
) -> tuple[Counter[str], Counter[int]]:
    tables = [(n, f"search_document_{n}") for n in range(SLICES)]
    deletes = ", ".join(
        f"d{n} AS (DELETE FROM {table} WHERE {where.format(table=table)}"
        f" RETURNING {n} AS slice, tsv)"
        for n, table in tables
    )
    union = " UNION ALL ".join(f"SELECT * FROM d{n}" for n, _ in tables)
    rows = conn.execute(
        f"""
        {source}{deletes}, gone AS MATERIALIZED ({union})
        SELECT slice, NULL, count(*) FROM gone GROUP BY slice
        UNION ALL
        SELECT NULL, lexeme, count(*)
        FROM gone, unnest(tsvector_to_array(tsv)) AS lexeme GROUP BY lexeme
        """,
        values,
    ).fetchall()
    lexemes = Counter({lexeme: n for _, lexeme, n in rows if lexeme is not None})
    return lexemes, Counter({number: -n for number, _, n in rows if number is not None})


def clear_slices(conn: Conn) -> None:
    """Remove everything, and all bounds."""
    tables = ", ".join(f"search_document_{n}" for n in range(SLICES))
    conn.execute(f"TRUNCATE {tables}")
    conn.execute(
        "UPDATE search_slice SET documents = 0, ts = NULL, actor = NULL,"
        " collection = NULL, rkey = NULL"
    )


def _insert(conn: Conn, number: int, rows: Sequence[Row]) -> None:
    conn.execute(
        f"""
        INSERT INTO search_document_{number} (actor, collection, rkey, ts, tsv)
        SELECT * FROM unnest(%s::int4[], %s::int4[], %s::int8[],
                             %s::timestamptz[], %s::tsvector[])
        """,
        (
            *int_columns([row.address for row in rows], 3),
            [row.ts for row in rows],
            text_array(row.tsv for row in rows),
        ),
    )


def _move_oldest(conn: Conn, one: Slice, most: int) -> int:
    """Move the oldest documents to the next slice, and the bound above them."""
    after = "" if one.bound is None else _ABOVE
    columns = "rkey, ts, actor, collection, tsv"
    moved = conn.execute(
        f"""
        WITH moved AS (
            DELETE FROM {one.table} WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM {one.table} {after}
                ORDER BY ts, actor, collection, rkey LIMIT %s
            )) RETURNING {columns}
        ), kept AS (
            INSERT INTO search_document_{one.number + 1} ({columns})
            SELECT {columns} FROM moved ORDER BY ts
            RETURNING ts, actor, collection, rkey
        )
        SELECT ts, actor, collection, rkey, count(*) OVER () FROM kept
        ORDER BY ts DESC, actor DESC, collection DESC, rkey DESC LIMIT 1
        """,
        [*(key_values(one.bound) if one.bound else ()), most],
    ).fetchone()
    if moved is None:
        return 0
    conn.execute(
        "UPDATE search_slice SET ts = %s, actor = %s, collection = %s, rkey = %s"
        " WHERE slice = %s",
        (*moved[:4], one.number),
    )
    return int(moved[4])


_ABOVE: Final = "WHERE (ts, actor, collection, rkey) > (%s, %s, %s, %s)"


def key_values(key: Key) -> list[Any]:
    """Return a key as query parameters."""
    return [from_micros(key.micros), *key[1:]]


def add_counts(conn: Conn, counts: Counter[int]) -> None:
    """Add changes to the numbers of documents in the catalogue."""
    changed = [(number, n) for number, n in sorted(counts.items()) if n]
    if changed:
        conn.execute(
            """
            UPDATE search_slice s SET documents = s.documents + x.n
            FROM unnest(%s::int4[], %s::int8[]) AS x(slice, n)
            WHERE s.slice = x.slice
            """,
            int_columns(changed, 2),
        )
