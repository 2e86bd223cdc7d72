"""Outbox of the search engine, written beside the rows it is about.

An entry only names a record. The drain reads the current row, so doubled or late
entries do no harm. Its cause decides if saved searches are matched.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from storage.collections import NO_COLLECTION, NO_RKEY
from storage.postgres.copy import copy_packed
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn
from storage.records.addresses import Address

_ROW: Final = struct.Struct(">hiiiiiqi")
_COLUMNS: Final = ("actor", "collection", "rkey", "op")


class Cause(StrEnum):
    """The reason of an entry."""

    WRITTEN = "new"
    """The record was created or changed."""
    FETCHED = "import"
    """The record came with a whole repo, and may be old."""
    INDEXED = "put"
    """The document is made again of an unchanged record."""


def put_outbox(
    conn: Conn,
    addresses: Iterable[tuple[int, int, int]],
    cause: Cause = Cause.INDEXED,
) -> None:
    """Queue records. Does not commit."""
    end = cause.encode()
    rows = [
        _ROW.pack(4, 4, actor, 4, collection, 8, rkey, len(end)) + end
        for actor, collection, rkey in addresses
    ]
    copy_packed(conn, "search_outbox", _COLUMNS, rows)


def put_account(conn: Conn, actor: int) -> None:
    """Queue everything of an account after a change of its visibility."""
    put_outbox(conn, [(actor, NO_COLLECTION, NO_RKEY)])


def take_outbox(conn: Conn, limit: int) -> list[tuple[int, Address, str]]:
    """Lock the oldest free entries; return (entry id, address, cause)."""
    rows = conn.execute(
        """
        SELECT id, actor, collection, rkey, op FROM search_outbox
        ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
        """,
        (limit,),
    )
    return [(row[0], Address(*row[1:4]), row[4]) for row in rows]


def delete_outbox(conn: Conn, ids: Iterable[int]) -> None:
    conn.execute("DELETE FROM search_outbox WHERE id = ANY(%s)", (list(ids),))


def outbox_backlog(conn: Conn, most: int = 100_000) -> int:
    """Count waiting entries, up to `most`."""
    return fetch_int(
        conn,
        "SELECT count(*) FROM (SELECT FROM search_outbox LIMIT %s) AS waiting",
        (most,),
    )


def is_waiting(conn: Conn, address: Address, most: int = 100_000) -> bool:
    """Return True if a record or its account is among the oldest `most` entries."""
    row = conn.execute(
        """
        SELECT EXISTS (
            SELECT FROM (
                SELECT actor, collection, rkey FROM search_outbox ORDER BY id LIMIT %s
            ) AS oldest
            WHERE actor = %s AND (collection = %s OR (collection, rkey) = (%s, %s))
        )
        """,
        (most, address.actor, NO_COLLECTION, address.collection, address.rkey),
    ).fetchone()
    return row == (True,)
