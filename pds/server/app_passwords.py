"""App passwords: one for each app, which its owner can revoke."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg.errors import UniqueViolation

from pds.exceptions import InvalidRequestError
from pds.identity.vault import derive_key
from pds.server.accounts import utc_text
from storage.postgres.pool import Conn

MAX_APP_PASSWORDS: Final = 100
MAX_NAME_CHARS: Final = 128
_GROUP: Final = 4
_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class AppPassword:
    """One app password; `privileged` gives access to private messages."""

    name: str
    privileged: bool
    created_at: datetime

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "createdAt": utc_text(self.created_at),
            "privileged": self.privileged,
        }


class AppPasswords:
    """The app passwords of one server.

    They have 80 random bits, so a keyed hash protects them, and a login costs little.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = derive_key(secret, "app passwords")

    def create(
        self, conn: Conn, account: int, name: str, *, privileged: bool, now: datetime
    ) -> tuple[AppPassword, str]:
        """Return a new app password and its text, which is not stored.

        Raises InvalidRequestError for a bad or used name, or too many app passwords.
        """
        if not 0 < len(name) <= MAX_NAME_CHARS or "\0" in name:
            raise InvalidRequestError(f"a name has 1 to {MAX_NAME_CHARS} characters")
        text = base64.b32encode(secrets.token_bytes(10)).decode().lower()
        groups = [text[i : i + _GROUP] for i in range(0, _CHARS, _GROUP)]
        password = "-".join(groups)
        try:
            inserted = conn.execute(
                "INSERT INTO app_password (account, name, digest, privileged,"
                " created_at) SELECT %s, %s, %b, %s, %s WHERE"
                " (SELECT count(*) FROM app_password WHERE account = %s) < %s",
                [
                    account,
                    name,
                    self._digest(account, password),
                    privileged,
                    now,
                    account,
                    MAX_APP_PASSWORDS,
                ],
            ).rowcount
        except UniqueViolation as error:
            raise InvalidRequestError(
                "could not create app-specific password: the name is in use"
            ) from error
        if not inserted:
            raise InvalidRequestError(f"at most {MAX_APP_PASSWORDS} app passwords")
        return AppPassword(name, privileged, now), password

    def find(self, conn: Conn, account: int, password: str) -> AppPassword | None:
        """Return the app password with that text."""
        row = conn.execute(
            "SELECT name, privileged, created_at FROM app_password"
            " WHERE account = %s AND digest = %b",
            [account, self._digest(account, password)],
        ).fetchone()
        return None if row is None else AppPassword(*row)

    def _digest(self, account: int, password: str) -> bytes:
        text = f"{account} {password.strip().lower()}"
        return hmac.new(
            self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256
        ).digest()


def list_app_passwords(conn: Conn, account: int) -> list[AppPassword]:
    """Return the app passwords of an account, newest first."""
    rows = conn.execute(
        "SELECT name, privileged, created_at FROM app_password WHERE account = %s"
        " ORDER BY created_at DESC, name",
        [account],
    ).fetchall()
    return [AppPassword(*row) for row in rows]


def delete_app_password(conn: Conn, account: int, name: str) -> None:
    """Delete an app password, if there is one of that name."""
    conn.execute(
        "DELETE FROM app_password WHERE account = %s AND name = %s", [account, name]
    )
