"""Records: exact bytes by address, read and written in bulk; whole repos in order."""

from __future__ import annotations

import heapq
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

import psycopg

from protocol.cid import DATA_PREFIX
from protocol.syntax.tid import tid_from_int
from storage.arrays import int_columns
from storage.copy import copy_packed
from storage.documents import Address
from storage.record_codec import compress_all, decompress

COLUMNS: Final = ("actor", "collection", "rkey", "value")
_PAGE_ROWS: Final = 2_000
_ROW: Final = struct.Struct(">hiiiiiqi")


def pack_records(
    addresses: Iterable[tuple[int, int, int]], values: Sequence[bytes]
) -> list[bytes]:
    """Rows for `copy_records`: records by (actor, collection, rkey), compressed."""
    return pack_stored(addresses, compress_all(values))


def pack_stored(
    addresses: Iterable[tuple[int, int, int]], stored: Sequence[bytes]
) -> list[bytes]:
    """Such rows of values in their stored form (storage.record_codec)."""
    pack = _ROW.pack
    return [
        pack(4, 4, actor, 4, collection, 8, rkey, len(value)) + value
        for (actor, collection, rkey), value in zip(addresses, stored, strict=True)
    ]


def copy_records(conn: psycopg.Connection[Any], packed: Iterable[bytes]) -> None:
    """Append packed rows. The addresses must be free."""
    copy_packed(conn, "record", COLUMNS, packed)


def fetch_records(
    conn: psycopg.Connection[Any], addresses: Sequence[tuple[int, int, int]]
) -> dict[Address, bytes]:
    """Address -> exact bytes, of those that exist. One statement."""
    if not addresses:
        return {}
    rows = conn.execute(
        """
        SELECT r.actor, r.collection, r.rkey, r.value
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS a (actor, collection, rkey)
        JOIN record r ON r.actor = a.actor AND r.collection = a.collection
          AND r.rkey = a.rkey
        """,
        int_columns(addresses, 3),
        binary=True,
    )
    return {
        Address(actor, collection, rkey): decompress(value)
        for actor, collection, rkey, value in rows
    }


def fetch_record(
    conn: psycopg.Connection[Any], actor: int, collection: int, rkey: int
) -> bytes | None:
    """The exact bytes of one record, None when there is none."""
    address = Address(actor, collection, rkey)
    return fetch_records(conn, [address]).get(address)


def delete_records(
    conn: psycopg.Connection[Any], addresses: Sequence[tuple[int, int, int]]
) -> int:
    """Remove records; return how many there were."""
    if not addresses:
        return 0
    return conn.execute(
        """
        DELETE FROM record r USING
            unnest(%s::int4[], %s::int4[], %s::int8[]) AS d (actor, collection, rkey)
        WHERE r.actor = d.actor AND r.collection = d.collection AND r.rkey = d.rkey
        """,
        int_columns(addresses, 3),
    ).rowcount


def list_records(
    conn: psycopg.Connection[Any],
    actor: int,
    collection: int,
    *,
    limit: int,
    before: int | None = None,
    reverse: bool = False,
) -> list[tuple[int, bytes]]:
    """(rkey, exact bytes) of one collection by record key number: newest TID first, or
    the other way round. `before` is the number the page before ended at."""
    compare, order = (">", "ASC") if reverse else ("<", "DESC")
    condition = f"AND rkey {compare} %(before)s" if before is not None else ""
    rows = conn.execute(
        f"""
        SELECT rkey, value FROM record
        WHERE actor = %(actor)s AND collection = %(collection)s {condition}
        ORDER BY rkey {order} LIMIT %(limit)s
        """,
        {
            "actor": actor,
            "collection": collection,
            "before": before,
            "limit": limit,
        },
        binary=True,
    )
    return [(rkey, decompress(value)) for rkey, value in rows]


def count_records(conn: psycopg.Connection[Any], actor: int) -> dict[int, int]:
    """Collection id -> number of records of one repo. Costs a scan of that repo."""
    rows = conn.execute(
        "SELECT collection, count(*) FROM record WHERE actor = %s GROUP BY 1", (actor,)
    )
    return dict(rows.fetchall())


def read_page(
    conn: psycopg.Connection[Any], actor: int, limit: int
) -> list[tuple[int, int, bytes]]:
    """The first (collection, rkey, exact bytes) of a repo, in index order."""
    rows = conn.execute(
        """
        SELECT collection, rkey, value FROM record WHERE actor = %s
        ORDER BY collection, rkey LIMIT %s
        """,
        (actor, limit),
        binary=True,
    )
    return [(collection, rkey, decompress(value)) for collection, rkey, value in rows]


def iter_pages(
    conn: psycopg.Connection[Any], actor: int, page_rows: int = _PAGE_ROWS
) -> Iterator[list[tuple[int, int, bytes]]]:
    """Pages of (collection, rkey, exact bytes) of one repo, in index order.

    Each page is a query of its own, so it may be changed between pages.
    """
    after = (-(2**31), -(2**63))
    while True:
        rows = conn.execute(
            """
            SELECT collection, rkey, value FROM record
            WHERE actor = %s AND (collection, rkey) > (%s::int4, %s::int8)
            ORDER BY collection, rkey LIMIT %s
            """,
            (actor, *after, page_rows),
            binary=True,
        ).fetchall()
        if rows:
            yield [(coll, rkey, decompress(value)) for coll, rkey, value in rows]
            after = rows[-1][0], rows[-1][1]
        if len(rows) < page_rows:
            return


def iter_repo(
    conn: psycopg.Connection[Any], actor: int
) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    """(tree key, CID, exact bytes) of a whole repo in the order of its tree.

    Bytes are None for a record that was dropped: only its CID is kept. Memory does not
    grow with the repo. Needs an open transaction (not autocommit), REPEATABLE READ
    while others may write to the repo.
    """
    kept = _iter_kept(conn, actor)
    dropped = conn.execute(
        "SELECT path, cid FROM dropped_record WHERE actor = %s ORDER BY path", (actor,)
    ).fetchall()
    if not dropped:
        return kept
    left: Iterator[tuple[bytes, bytes, bytes | None]] = (
        (path, cid, None) for path, cid in dropped
    )
    return heapq.merge(kept, left, key=lambda item: item[0])


def _iter_kept(
    conn: psycopg.Connection[Any], actor: int
) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    for number, nsid in _collections_in_tree_order(conn, actor):
        prefix = nsid.encode() + b"/"
        # Numbers of TIDs sort as their texts do; other keys are sorted by text.
        tids = (
            (tid_from_int(rkey).encode(), stored)
            for rkey, stored in _stream(conn, _TID_RECORDS, actor, number)
        )
        texts = (
            (text.encode(), stored)
            for text, stored in _stream(conn, _TEXT_RECORDS, actor, number)
        )
        for rkey, stored in heapq.merge(tids, texts, key=lambda item: item[0]):
            value = decompress(stored)
            yield prefix + rkey, DATA_PREFIX + sha256(value).digest(), value


def _collections_in_tree_order(
    conn: psycopg.Connection[Any], actor: int
) -> list[tuple[int, str]]:
    # A skip scan: as many index probes as the repo has collections.
    rows = conn.execute(
        """
        WITH RECURSIVE used AS (
            SELECT (SELECT min(collection) FROM record WHERE actor = %(actor)s) AS id
            UNION ALL
            SELECT (SELECT min(collection) FROM record
                    WHERE actor = %(actor)s AND collection > used.id)
            FROM used WHERE used.id IS NOT NULL
        )
        SELECT collection.id, nsid FROM used JOIN collection USING (id)
        """,
        {"actor": actor},
    ).fetchall()
    # Keys of the tree go on with "/", which sorts behind the dot.
    return sorted(rows, key=lambda row: str(row[1]) + "/")


_TID_RECORDS: Final = """
    SELECT rkey, value FROM record
    WHERE actor = %s AND collection = %s AND rkey > 0 ORDER BY rkey
"""
_TEXT_RECORDS: Final = """
    SELECT rkey.text, value FROM record JOIN rkey ON rkey.id = record.rkey
    WHERE actor = %s AND collection = %s AND record.rkey < 0
    ORDER BY rkey.text COLLATE "C"
"""
_cursor_numbers: Final = itertools.count(1)


def _stream(
    conn: psycopg.Connection[Any], query: str, actor: int, number: int
) -> Iterator[tuple[Any, bytes]]:
    name = f"repo_{next(_cursor_numbers)}"
    with conn.cursor(name=name, binary=True) as cursor:
        cursor.itersize = _PAGE_ROWS
        cursor.execute(query, (actor, number))
        yield from cursor
