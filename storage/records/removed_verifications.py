"""Verifications that were deleted: the accounts are notified of their end.

No record tells of them, so they are not made again with an index.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from storage.collections import COLLECTION_IDS, GRAPH_VERIFICATION
from storage.postgres.arrays import int_columns
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn


def note_verifications(
    conn: Conn,
    written: Sequence[tuple[int, int]],
    removed: Sequence[tuple[int, int, int]],
    now: datetime,
) -> None:
    """Note removed verifications (actor, rkey, subject), and forget written ones.

    Does not commit.
    """
    if written:
        conn.execute(
            "DELETE FROM removed_verification r"
            " USING unnest(%s::int4[], %s::int8[]) AS d (actor, rkey)"
            " WHERE r.actor = d.actor AND r.rkey = d.rkey",
            int_columns(written, 2),
        )
    if removed:
        conn.execute(
            """
            INSERT INTO removed_verification (actor, rkey, recipient, removed_at)
            SELECT DISTINCT ON (actor, rkey) actor, rkey, recipient, %s::timestamptz
            FROM unnest(%s::int4[], %s::int8[], %s::int4[])
                AS d (actor, rkey, recipient)
            ORDER BY actor, rkey
            ON CONFLICT (actor, rkey) DO NOTHING
            """,
            (now, *int_columns(removed, 3)),
        )


def count_surplus_removals(conn: Conn, actor: int) -> int:
    """Return the number of an account's removed verifications that are there."""
    return fetch_int(
        conn,
        """
        SELECT count(*) FROM removed_verification v
        JOIN record r ON r.actor = v.actor AND r.collection = %s AND r.rkey = v.rkey
        WHERE v.actor = %s
        """,
        (COLLECTION_IDS[GRAPH_VERIFICATION], actor),
    )
