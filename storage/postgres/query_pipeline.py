"""A missing part of psycopg's pipeline mode."""

from __future__ import annotations

import select

from storage.postgres.pool import Conn


def send_all(conn: Conn) -> None:
    """Send all queued queries to the server.

    In pipeline mode psycopg reads results without flushing. After large values both
    sides could wait forever, so call this before a result is read and before the
    pipeline ends.
    """
    while True:
        left = conn.pgconn.flush()
        select.select([], [conn.fileno()], [])
        if not left:
            return
