"""Used service tokens, shared by all processes."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from storage.postgres.pool import Conn


def use_jti(conn: Conn, iss: str, jti: str, exp: int) -> bool:
    """Record a token until `exp` (Unix seconds); return False if it was used before.

    One statement decides, so only one of several concurrent callers gets True. The
    token counts as used once the caller commits.
    """
    digest = sha256(f"{iss}\n{jti}".encode()).digest()
    cursor = conn.execute(
        "INSERT INTO jti (digest, expires_at) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (digest, datetime.fromtimestamp(exp, UTC)),
    )
    return cursor.rowcount == 1


def forget_expired_jtis(conn: Conn, now: float) -> int:
    """Delete the tokens that expired before `now` (Unix seconds); return their
    number."""
    cursor = conn.execute(
        "DELETE FROM jti WHERE expires_at < %s", (datetime.fromtimestamp(now, UTC),)
    )
    return cursor.rowcount
