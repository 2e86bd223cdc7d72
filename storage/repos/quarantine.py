"""Frames that could not be applied, kept with their bytes."""

from __future__ import annotations

from typing import Final

from storage.postgres.pool import Conn

KEPT: Final = 1_000
"""Maximum stored frames, the newest; each may have 5 MB."""


def put_frame(conn: Conn, host: int, seq: int, frame: bytes, error: str) -> None:
    """Store a frame that could not be applied, with the error. Does not commit."""
    row = conn.execute(
        "INSERT INTO quarantined_frame (host, seq, frame, error)"
        " VALUES (%s, %s, %s, %s) RETURNING id",
        (host, seq, frame, error[:2_000].replace("\0", "")),
    ).fetchone()
    assert row is not None
    conn.execute("DELETE FROM quarantined_frame WHERE id <= %s", (row[0] - KEPT,))
