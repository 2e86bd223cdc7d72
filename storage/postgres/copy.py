"""Bulk writes: binary COPY of rows packed by hand.

One `struct` call a row is three times faster than a general row writer, and one thread
can pack while another sends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from storage.postgres.pool import Conn

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_TEXT_OID: Final = 25
# Dimensions, a flag for NULLs, the type; then the length and the lower bound.
_ARRAY: Final = struct.Struct(">iiIii")
_NO_TEXTS: Final = struct.pack(">iiI", 0, 0, _TEXT_OID)
_LENGTH: Final = struct.Struct(">i")

Row = tuple[Any, ...]


def fixed_packer(types: Sequence[str]) -> struct.Struct:
    """Return a packer of rows of int2, int4 or int8 columns that are never NULL.

    The packed arguments are the length and the value of each column.
    """
    codes = {"int2": "ih", "int4": "ii", "int8": "iq"}
    return struct.Struct(">h" + "".join(codes[name] for name in types))


def copy_packed(
    conn: Conn, table: str, columns: Sequence[str], rows: Iterable[bytes]
) -> None:
    """COPY packed rows. `table` and `columns` are our own names."""
    body = b"".join(rows)
    if not body:
        return
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
    with conn.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.write(_HEADER)
        copy.write(body)
        copy.write(_TRAILER)


def copy_rows(
    conn: Conn,
    table: str,
    columns: Sequence[str],
    types: Sequence[str],
    rows: Sequence[Row],
) -> None:
    """COPY rows of any types through psycopg.

    A `text[]` is allowed as the last column only, for short texts that often repeat.
    """
    if not rows:
        return
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
    sent: Iterable[Row] = rows
    if types[-1] == "text[]":
        # psycopg would take longer for this column than for all others.
        types, sent = (*types[:-1], "bytea"), _pack_last(rows)
    with conn.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types(types)
        for row in sent:
            copy.write_row(row)


def _pack_last(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        texts = row[-1]
        yield row if texts is None else (*row[:-1], _pack_texts(tuple(texts)))


@lru_cache(maxsize=1_024)
def _pack_texts(texts: tuple[str, ...]) -> bytes:
    """Return the binary form of a `text[]`, as PostgreSQL's array_recv reads it."""
    if not texts:
        return _NO_TEXTS
    items = [text.encode() for text in texts]
    head = _ARRAY.pack(1, 0, _TEXT_OID, len(items), 1)
    return head + b"".join([_LENGTH.pack(len(item)) + item for item in items])
