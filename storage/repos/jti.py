"""Service tokens already used, so that no process takes one twice."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import psycopg


def use_jti(conn: psycopg.Connection[Any], iss: str, jti: str, exp: int) -> bool:
    """Remember a token until `exp` (Unix seconds); False if it was used before.

    One statement decides, so of any number of callers at once one gets True. The
    caller's transaction must be committed before the token counts as used.
    """
    digest = sha256(f"{iss}\n{jti}".encode()).digest()
    cursor = conn.execute(
        "INSERT INTO jti (digest, expires_at) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (digest, datetime.fromtimestamp(exp, UTC)),
    )
    return cursor.rowcount == 1


def forget_expired_jtis(conn: psycopg.Connection[Any], now: float) -> int:
    """Delete the tokens that expired before `now` (Unix seconds); returns how many."""
    cursor = conn.execute(
        "DELETE FROM jti WHERE expires_at < %s", (datetime.fromtimestamp(now, UTC),)
    )
    return cursor.rowcount
