"""How far a list of hosts that only grows was taken over."""

from __future__ import annotations

from typing import Any

import psycopg


def load_position(conn: psycopg.Connection[Any], name: str) -> int:
    """Return how far the list `name` was taken over; 0 for not at all."""
    row = conn.execute(
        "SELECT position FROM host_source WHERE name = %s", (name,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def keep_position(conn: psycopg.Connection[Any], name: str, position: int) -> None:
    """Remember that the list `name` was taken over up to `position`."""
    conn.execute(
        """
        INSERT INTO host_source (name, position) VALUES (%s, %s)
        ON CONFLICT (name) DO UPDATE
        SET position = greatest(host_source.position, excluded.position)
        """,
        (name, position),
    )
