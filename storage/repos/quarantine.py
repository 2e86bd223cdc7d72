"""Events that could not be applied, set aside with their bytes."""

from __future__ import annotations

from typing import Any, Final

import psycopg

KEPT: Final = 1_000
"""The newest of them. They may be of 5 MB each, and come without end."""


def put_frame(
    conn: psycopg.Connection[Any], host: int, seq: int, frame: bytes, error: str
) -> None:
    """Keep what could not be applied, and why. Does not commit."""
    row = conn.execute(
        "INSERT INTO quarantined_frame (host, seq, frame, error)"
        " VALUES (%s, %s, %s, %s) RETURNING id",
        (host, seq, frame, error[:2_000].replace("\0", "")),
    ).fetchone()
    assert row is not None
    conn.execute("DELETE FROM quarantined_frame WHERE id <= %s", (row[0] - KEPT,))


def count_frames(conn: psycopg.Connection[Any]) -> int:
    """Return how many events are set aside: more than none is an alarm."""
    row = conn.execute("SELECT count(*) FROM quarantined_frame").fetchone()
    assert row is not None
    return int(row[0])
