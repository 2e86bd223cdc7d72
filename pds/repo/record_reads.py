"""Record reads: one, a page of a collection, the collections of a repo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pds.exceptions import RecordNotFoundError
from storage.postgres.pool import Conn

_SHOWN: Final = (
    "NOT EXISTS (SELECT FROM takedown t"
    " WHERE t.account = r.account AND t.subject = r.path)"
)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record with its exact bytes."""

    rkey: str
    cid: bytes
    value: bytes


def find_record(conn: Conn, account: int, collection: str, rkey: str) -> StoredRecord:
    """Return the current record of that path. Raises RecordNotFoundError."""
    row = conn.execute(
        "SELECT r.cid, b.value FROM record r"
        " JOIN block b ON b.account = r.account AND b.cid = r.cid"
        f" WHERE r.account = %s AND r.path = %s AND {_SHOWN}",
        [account, f"{collection}/{rkey}"],
    ).fetchone()
    if row is None:
        raise RecordNotFoundError(f"Could not locate record: {collection}/{rkey}")
    return StoredRecord(rkey, row[0], row[1])


def page_records(
    conn: Conn,
    account: int,
    collection: str,
    *,
    limit: int,
    after: str | None,
    ascending: bool,
) -> list[StoredRecord]:
    """Return a page of a collection, newest key first unless `ascending`.

    `after` is the record key at which the previous page ended.
    """
    prefix = f"{collection}/"
    # "0" follows "/" in ASCII: all paths of the collection, and no other.
    low, high = prefix, f"{collection}0"
    if after is not None and ascending:
        low = prefix + after
    elif after is not None:
        high = prefix + after
    rows = conn.execute(
        "SELECT r.path, r.cid, b.value FROM record r"
        " JOIN block b ON b.account = r.account AND b.cid = r.cid"
        f" WHERE r.account = %s AND r.path > %s AND r.path < %s AND {_SHOWN}"
        f" ORDER BY r.path {'ASC' if ascending else 'DESC'} LIMIT %s",
        [account, low, high, limit],
    ).fetchall()
    return [StoredRecord(path[len(prefix) :], cid, value) for path, cid, value in rows]


def list_collections(conn: Conn, account: int) -> list[str]:
    """Return the collections that have a record, by one index probe each."""
    rows = conn.execute(
        "WITH RECURSIVE step (name) AS ("
        "  (SELECT split_part(path, '/', 1) FROM record WHERE account = %(account)s"
        "   ORDER BY path LIMIT 1)"
        "  UNION ALL"
        "  SELECT (SELECT split_part(path, '/', 1) FROM record"
        "          WHERE account = %(account)s AND path > step.name || '0'"
        "          ORDER BY path LIMIT 1)"
        "  FROM step WHERE step.name IS NOT NULL"
        ") SELECT name FROM step WHERE name IS NOT NULL",
        {"account": account},
    ).fetchall()
    return sorted(row[0] for row in rows)
