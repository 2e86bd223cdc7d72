"""What psycopg's pipeline mode leaves to its users."""

from __future__ import annotations

import select

from storage.postgres.pool import Conn


def send_all(conn: Conn) -> None:
    """Send what the socket has not taken yet, and wait until it takes more.

    In pipeline mode psycopg asks for results without looking whether its questions
    have left. After large values a rest of them may not have, and then both sides wait
    for ever. Call this before a result is fetched in a pipeline, and before its end.
    """
    while True:
        left = conn.pgconn.flush()
        select.select([], [conn.fileno()], [])
        if not left:
            return
