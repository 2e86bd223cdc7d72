"""Tokens that prove access to an account's mailbox: one use, fifteen minutes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Final

from pds.exceptions import ExpiredTokenError, InvalidTokenError
from pds.identity.vault import derive_key
from storage.postgres.pool import Conn

PLC_OPERATION: Final = "plc_operation"
CONFIRM_EMAIL: Final = "confirm_email"
UPDATE_EMAIL: Final = "update_email"
RESET: Final = "reset_password"
DELETE_ACCOUNT: Final = "delete_account"

LIFETIME: Final = timedelta(minutes=15)
# 50 bits, in two groups.
_GROUP: Final = 5


class EmailTokens:
    """The mailed tokens of one server; the database has only keyed hashes."""

    def __init__(self, secret: bytes) -> None:
        self._key = derive_key(secret, "mailed tokens")

    def issue(self, conn: Conn, account: int, purpose: str, now: datetime) -> str:
        """Return a new token, which replaces an older one of that purpose."""
        text = base64.b32encode(secrets.token_bytes(7)).decode()
        token = f"{text[:_GROUP]}-{text[_GROUP : 2 * _GROUP]}"
        conn.execute(
            "INSERT INTO email_token (account, purpose, digest, expires_at)"
            " VALUES (%s, %s, %b, %s) ON CONFLICT (account, purpose) DO UPDATE"
            " SET digest = excluded.digest, expires_at = excluded.expires_at",
            [account, purpose, self._digest(purpose, token), now + LIFETIME],
        )
        return token

    def check(
        self, conn: Conn, account: int, purpose: str, token: str, now: datetime
    ) -> None:
        """Raise InvalidTokenError or ExpiredTokenError for an invalid token."""
        row = conn.execute(
            "SELECT expires_at FROM email_token"
            " WHERE account = %s AND purpose = %s AND digest = %b",
            [account, purpose, self._digest(purpose, token)],
        ).fetchone()
        _require_valid(None if row is None else row[0], now)

    def use(
        self, conn: Conn, account: int, purpose: str, token: str, now: datetime
    ) -> None:
        """Use up a token. Raises as `check`; of two uses at once one succeeds."""
        row = conn.execute(
            "DELETE FROM email_token"
            " WHERE account = %s AND purpose = %s AND digest = %b RETURNING expires_at",
            [account, purpose, self._digest(purpose, token)],
        ).fetchone()
        _require_valid(None if row is None else row[0], now)

    def find_account(self, conn: Conn, purpose: str, token: str, now: datetime) -> int:
        """Return the account of a token, without its use. Raises as `check`."""
        row = conn.execute(
            "SELECT account, expires_at FROM email_token"
            " WHERE digest = %b AND purpose = %s",
            [self._digest(purpose, token), purpose],
        ).fetchone()
        _require_valid(None if row is None else row[1], now)
        assert row is not None
        return int(row[0])

    def _digest(self, purpose: str, token: str) -> bytes:
        text = f"{purpose} {token.strip().upper()}"
        return hmac.new(
            self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256
        ).digest()


def delete_tokens(conn: Conn, account: int) -> None:
    """Delete all tokens of an account."""
    conn.execute("DELETE FROM email_token WHERE account = %s", [account])


def prune_tokens(conn: Conn, now: datetime) -> None:
    """Delete expired tokens."""
    conn.execute("DELETE FROM email_token WHERE expires_at < %s", [now])


def _require_valid(expires: datetime | None, now: datetime) -> None:
    if expires is None:
        raise InvalidTokenError("Token is invalid")
    if expires <= now:
        raise ExpiredTokenError("Token is expired")
