"""Labels that this service has issued, in the order of its stream."""

from __future__ import annotations

from datetime import datetime

from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn


def put_label(
    conn: Conn,
    number: int,
    *,
    uri: str,
    val: str,
    cid: str,
    neg: bool,
    exp: datetime | None,
    raw: bytes,
) -> None:
    """Store a label in place of the one of the same kind. Does not commit.

    Its number is a new one, so readers of the stream get it also if they had the
    earlier label.
    """
    conn.execute(
        """
        INSERT INTO own_label (number, uri, val, cid, neg, exp, raw)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (uri, val, cid) DO UPDATE
        SET number = excluded.number, neg = excluded.neg, exp = excluded.exp,
            raw = excluded.raw
        """,
        (number, uri, val, cid, neg, exp, raw),
    )


def is_labelled(conn: Conn, uri: str, val: str, cid: str) -> bool:
    """Return True if such a label is in force."""
    row = conn.execute(
        "SELECT FROM own_label WHERE uri = %s AND val = %s AND cid = %s AND NOT neg"
        " AND (exp IS NULL OR exp > now())",
        (uri, val, cid),
    ).fetchone()
    return row is not None


def labels_after(conn: Conn, number: int, limit: int) -> list[tuple[int, bytes]]:
    """Return the next labels of the stream: number and signed label."""
    return conn.execute(
        "SELECT number, raw FROM own_label WHERE number > %s ORDER BY number LIMIT %s",
        (number, limit),
    ).fetchall()


def newest_labels(conn: Conn, limit: int, uri: str = "") -> list[bytes]:
    """Return the newest signed labels, of one subject or of all, without negations."""
    rows = conn.execute(
        "SELECT raw FROM own_label WHERE NOT neg AND %(uri)s IN ('', uri)"
        " ORDER BY number DESC LIMIT %(limit)s",
        {"uri": uri, "limit": limit},
    )
    return [raw for (raw,) in rows]


def last_number(conn: Conn) -> int:
    """Return the number of the newest label, 0 if there is none."""
    return fetch_int(conn, "SELECT coalesce(max(number), 0) FROM own_label")
