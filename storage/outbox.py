"""Outbox of the search engine, written beside the rows it is about.

An entry only names a record. The drain reads the current row, so doubled or late
entries do no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from storage.collections import NO_COLLECTION, NO_RKEY
from storage.postgres.copy import copy_packed, fixed_packer
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn
from storage.records.addresses import Address

_ROW: Final = fixed_packer(("int4", "int4", "int8"))
_COLUMNS: Final = ("actor", "collection", "rkey")


def put_outbox(conn: Conn, addresses: Iterable[tuple[int, int, int]]) -> None:
    """Queue records. Does not commit."""
    rows = [_ROW.pack(3, 4, a, 4, c, 8, r) for a, c, r in addresses]
    copy_packed(conn, "search_outbox", _COLUMNS, rows)


def put_account(conn: Conn, actor: int) -> None:
    """Queue everything of an account after a change of its visibility."""
    put_outbox(conn, [(actor, NO_COLLECTION, NO_RKEY)])


def take_outbox(conn: Conn, limit: int) -> list[tuple[int, Address]]:
    """Lock the oldest free entries; return (entry id, address)."""
    rows = conn.execute(
        """
        SELECT id, actor, collection, rkey FROM search_outbox
        ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
        """,
        (limit,),
    )
    return [(row[0], Address(*row[1:])) for row in rows]


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
