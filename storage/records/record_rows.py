"""Records: exact bytes by address, in bulk, and whole repos in order."""

from __future__ import annotations

import heapq
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from protocol.data.cid import DATA_PREFIX
from protocol.syntax.tid import tid_from_int
from storage.postgres.arrays import int_array, int_columns
from storage.postgres.copy import copy_packed
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.record_codec import compress_all, decompress

COLUMNS: Final = ("actor", "collection", "rkey", "value")
_PAGE_ROWS: Final = 2_000
PAGE_BYTES: Final = 2_000_000
"""Decoding records may take thirty times their bytes, if they are all links."""

# Large stored records are left out of pages and fetched one by one: a page has at most
# 32 MB.
_SMALL: Final = "CASE WHEN octet_length(value) <= 16384 THEN value END"
_ROW: Final = struct.Struct(">hiiiiiqi")


def pack_records(
    addresses: Iterable[tuple[int, int, int]], values: Sequence[bytes]
) -> list[bytes]:
    """Pack rows for `copy_records`: records by (actor, collection, rkey),
    compressed."""
    return pack_stored(addresses, compress_all(values))


def pack_stored(
    addresses: Iterable[tuple[int, int, int]], stored: Sequence[bytes]
) -> list[bytes]:
    """Pack rows of values in their stored form (storage.records.record_codec)."""
    pack = _ROW.pack
    return [
        pack(4, 4, actor, 4, collection, 8, rkey, len(value)) + value
        for (actor, collection, rkey), value in zip(addresses, stored, strict=True)
    ]


def copy_records(conn: Conn, packed: Iterable[bytes]) -> None:
    """Append packed rows; their addresses must be free."""
    copy_packed(conn, "record", COLUMNS, packed)


def fetch_records(
    conn: Conn, addresses: Sequence[tuple[int, int, int]]
) -> dict[Address, bytes]:
    """Return (actor, collection, rkey) -> exact bytes of existing records."""
    found: dict[Address, bytes] = {}
    for _, piece in fetch_pieces(conn, addresses):
        found |= piece
    return found


def fetch_pieces(
    conn: Conn, addresses: Sequence[tuple[int, int, int]]
) -> Iterator[tuple[Sequence[tuple[int, int, int]], dict[Address, bytes]]]:
    """Yield the next addresses and their records, in order.

    A piece has up to 2,000 addresses, and ends once 2 MB have been read.
    """
    for start in range(0, len(addresses), _PAGE_ROWS):
        asked = addresses[start : start + _PAGE_ROWS]
        rows = conn.execute(_FETCH, int_columns(asked, 3), binary=True)
        held = {(a, collection, rkey): stored for a, collection, rkey, stored in rows}
        found: dict[Address, bytes] = {}
        begun = size = 0
        for index, address in enumerate(asked):
            if address not in held:
                continue
            value = decompress(held[address] or fetch_large(conn, *address))
            found[Address(*address)] = value
            size += len(value)
            if size > PAGE_BYTES:
                yield asked[begun : index + 1], found
                begun, size, found = index + 1, 0, {}
        if begun < len(asked):
            yield asked[begun:], found


def delete_records(conn: Conn, addresses: Sequence[tuple[int, int, int]]) -> int:
    """Remove records; return their number."""
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


def find_holders(conn: Conn, actors: Iterable[int]) -> set[int]:
    """Return those of these accounts that have any record, kept or dropped."""
    rows = conn.execute(
        """
        SELECT id FROM unnest(%s::int4[]) AS asked (id)
        WHERE EXISTS (SELECT FROM record WHERE actor = id)
           OR EXISTS (SELECT FROM dropped_record WHERE actor = id)
        """,
        (int_array(actors),),
    )
    return {row[0] for row in rows}


_FETCH: Final = f"""
    SELECT r.actor, r.collection, r.rkey, {_SMALL}
    FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS a (actor, collection, rkey)
    JOIN record r ON r.actor = a.actor AND r.collection = a.collection
      AND r.rkey = a.rkey
"""


class Page(NamedTuple):
    """Consecutive records: (collection, rkey, exact bytes), and True if it is the
    last."""

    records: list[tuple[int, int, bytes]]
    last: bool


def read_stored(
    conn: Conn,
    actor: int,
    *,
    after: tuple[int, int] = (-(2**31), -(2**63)),
    rows: int = _PAGE_ROWS,
    outside: Iterable[int] = (),
) -> Iterator[tuple[int, int, bytes]]:
    """Yield the next records of a repo: (collection, rkey, stored form).

    Up to `rows`, and none of the collections `outside`.
    """
    found = conn.execute(
        f"""
        SELECT collection, rkey, {_SMALL} FROM record
        WHERE actor = %s AND (collection, rkey) > (%s::int4, %s::int8)
          AND collection <> ALL(%s::int4[])
        ORDER BY collection, rkey LIMIT %s
        """,
        (actor, *after, int_array(outside), rows),
        binary=True,
    ).fetchall()
    for collection, rkey, stored in found:
        yield collection, rkey, stored or fetch_large(conn, actor, collection, rkey)


def read_page(
    conn: Conn,
    actor: int,
    *,
    after: tuple[int, int] = (-(2**31), -(2**63)),
    rows: int = _PAGE_ROWS,
    outside: Iterable[int] = (),
) -> Page:
    """Return the records after the (collection, rkey) `after`, in index order.

    Up to `rows`, and it ends once 2 MB have been read.
    """
    records: list[tuple[int, int, bytes]] = []
    size = 0
    stored = read_stored(conn, actor, after=after, rows=rows, outside=outside)
    for collection, rkey, packed in stored:
        value = decompress(packed)
        records.append((collection, rkey, value))
        size += len(value)
        if size > PAGE_BYTES:
            return Page(records, False)
    return Page(records, len(records) < rows)


def iter_pages(conn: Conn, actor: int) -> Iterator[list[tuple[int, int, bytes]]]:
    """Yield all records of a repo by page, in a transaction with one snapshot."""
    page = read_page(conn, actor)
    while page.records:
        yield page.records
        if page.last:
            return
        page = read_page(conn, actor, after=page.records[-1][:2])


def iter_repo(conn: Conn, actor: int) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    """Return (tree key, CID, exact bytes) of a whole repo in tree order.

    The bytes of a dropped record are None: only its CID is kept. Memory does not grow
    with the repo. Needs an open transaction, REPEATABLE READ while others may write to
    the repo.
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


def _iter_kept(conn: Conn, actor: int) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    for number, nsid in _collections_in_tree_order(conn, actor):
        prefix = nsid.encode() + b"/"
        # Ids of TIDs sort as their texts; other keys are sorted by text.
        tids = (
            (tid_from_int(rkey).encode(), stored)
            for rkey, _, stored in _stream(conn, _TID_RECORDS, actor, number)
        )
        texts = (
            (text.encode(), stored)
            for _, text, stored in _stream(conn, _TEXT_RECORDS, actor, number)
        )
        for rkey, stored in heapq.merge(tids, texts, key=lambda item: item[0]):
            value = decompress(stored)
            yield prefix + rkey, DATA_PREFIX + sha256(value).digest(), value


def _collections_in_tree_order(conn: Conn, actor: int) -> list[tuple[int, str]]:
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
    # Tree keys continue with "/", which sorts behind the dot.
    return sorted(rows, key=lambda row: str(row[1]) + "/")


_TID_RECORDS: Final = f"""
    SELECT rkey, NULL, {_SMALL} FROM record
    WHERE actor = %s AND collection = %s AND rkey > 0 ORDER BY rkey
"""
_TEXT_RECORDS: Final = f"""
    SELECT rkey.id, rkey.text, {_SMALL} FROM record JOIN rkey ON rkey.id = record.rkey
    WHERE actor = %s AND collection = %s AND record.rkey < 0
    ORDER BY rkey.text COLLATE "C"
"""
_cursor_numbers: Final = itertools.count(1)


def _stream(
    conn: Conn, query: str, actor: int, collection: int
) -> Iterator[tuple[int, Any, bytes]]:
    name = f"repo_{next(_cursor_numbers)}"
    with conn.cursor(name=name, binary=True) as cursor:
        cursor.itersize = _PAGE_ROWS
        cursor.execute(query, (actor, collection))
        for rkey, text, stored in cursor:
            yield (rkey, text, stored or fetch_large(conn, actor, collection, rkey))


def fetch_large(conn: Conn, actor: int, collection: int, rkey: int) -> bytes:
    """Return the stored form of a record that this transaction has seen."""
    row = conn.execute(
        "SELECT value FROM record WHERE actor = %s AND collection = %s AND rkey = %s",
        (actor, collection, rkey),
        binary=True,
    ).fetchone()
    assert row is not None, "seen by this transaction a moment ago"
    return bytes(row[0])
