"""Progress of reading lists of hosts that only grow."""

from __future__ import annotations

from storage.postgres.pool import Conn


def load_position(conn: Conn, name: str) -> int:
    """Return the position up to which the list `name` was read; 0 at first."""
    row = conn.execute(
        "SELECT position FROM host_source WHERE name = %s", (name,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def keep_position(conn: Conn, name: str, position: int) -> None:
    """Note that the list `name` was read up to `position`."""
    conn.execute(
        """
        INSERT INTO host_source (name, position) VALUES (%s, %s)
        ON CONFLICT (name) DO UPDATE
        SET position = greatest(host_source.position, excluded.position)
        """,
        (name, position),
    )
