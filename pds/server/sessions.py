"""Sessions: access and refresh tokens, rotation, revocation.

Tokens are HS256 JWTs for this server alone. A login is one row of `session`, its
refresh tokens are rows of `refresh_token`. Each refresh names a successor. For two
hours the used token returns the same successor, because two tabs may refresh at once
and a response may be lost. A later second use means that two parties hold the token:
the whole login is revoked. Access tokens name their login, so they end with it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pds.exceptions import AccountTakedownError, ExpiredTokenError, InvalidTokenError
from pds.identity.vault import derive_key
from pds.server import scopes
from pds.server.accounts import ACCOUNT_COLUMNS, DELETED, TAKENDOWN, Account
from pds.settings import PdsSettings
from protocol.data.base64url import decode_base64url, encode_base64url
from storage.postgres.pool import Conn

REFRESH_GRACE: Final = timedelta(hours=2)
"""Time for which a used refresh token gives the same successor, as on the reference."""

_MAX_TOKEN_CHARS = 4096


def _new_refresh_id() -> str:
    return secrets.token_urlsafe(24)


def _header(typ: str) -> str:
    return encode_base64url(json.dumps({"typ": typ, "alg": "HS256"}).encode())


_ACCESS_HEADER = _header("at+jwt")
_REFRESH_HEADER = _header("refresh+jwt")


@dataclass(frozen=True, slots=True)
class Tokens:
    access: str
    refresh: str


@dataclass(frozen=True, slots=True)
class Login:
    """The account of a request, and its session."""

    account: Account
    session: str
    scope: str


class Sessions:
    """The tokens of one server."""

    def __init__(self, settings: PdsSettings) -> None:
        self._key = derive_key(settings.secret, "session tokens")
        self._audience = settings.service_did
        self._access_lifetime = settings.access_lifetime
        self._refresh_lifetime = settings.refresh_lifetime

    def open(
        self,
        conn: Conn,
        account: int,
        did: str,
        now: datetime,
        *,
        scope: str = scopes.FULL,
        app_password: str | None = None,
    ) -> Tokens:
        """Open a session, of the app with that name if `app_password` is given."""
        session = secrets.token_urlsafe(18)
        expires = now + timedelta(seconds=self._refresh_lifetime)
        conn.execute(
            "INSERT INTO session (id, account, expires_at, scope, app_password)"
            " VALUES (%s, %s, %s, %s, %s)",
            [session, account, expires, scope, app_password],
        )
        refresh_id = _new_refresh_id()
        self._insert_refresh_token(conn, session, refresh_id, expires)
        return self._mint(did, session, scope, refresh_id, now)

    def refresh(self, conn: Conn, token: str, now: datetime) -> Tokens | None:
        """Exchange a refresh token for new tokens.

        None when the token was used before its grace time: its session is then revoked,
        which the caller must commit before it responds with ExpiredToken.
        """
        claims = self._read(token, _REFRESH_HEADER, now)
        session, used = claims["sid"], claims["jti"]
        # The lock serializes refreshes of one session.
        live = conn.execute(
            "SELECT scope FROM session WHERE id = %s AND revoked_at IS NULL FOR UPDATE",
            [session],
        ).fetchone()
        if live is None:
            return None
        row = conn.execute(
            "SELECT next_id FROM refresh_token"
            " WHERE id = %s AND session = %s AND expires_at > %s",
            [used, session, now],
        ).fetchone()
        if row is None:
            self._revoke(conn, session, now)
            return None
        successor = row[0]
        if successor is None:
            successor = self._rotate(conn, session, used, now)
        return self._mint(claims["sub"], session, live[0], successor, now)

    def _rotate(self, conn: Conn, session: str, used: str, now: datetime) -> str:
        """Store the successor of an unused refresh token; return its id."""
        successor = _new_refresh_id()
        expires = now + timedelta(seconds=self._refresh_lifetime)
        conn.execute(
            "UPDATE refresh_token SET next_id = %s,"
            " expires_at = least(expires_at, %s) WHERE id = %s",
            [successor, now + REFRESH_GRACE, used],
        )
        conn.execute(
            "UPDATE session SET expires_at = %s WHERE id = %s", [expires, session]
        )
        self._insert_refresh_token(conn, session, successor, expires)
        return successor

    def _insert_refresh_token(
        self, conn: Conn, session: str, refresh_id: str, expires: datetime
    ) -> None:
        conn.execute(
            "INSERT INTO refresh_token (id, session, expires_at) VALUES (%s, %s, %s)",
            [refresh_id, session, expires],
        )

    def close(self, conn: Conn, token: str, now: datetime) -> None:
        """Revoke the session of a refresh token."""
        claims = self._read(token, _REFRESH_HEADER, now)
        self._revoke(conn, claims["sid"], now)

    def authenticate(
        self, conn: Conn, token: str, now: datetime, *, refresh: bool = False
    ) -> Login:
        """Return the login of an access token, or of a refresh token.

        Raises InvalidTokenError, ExpiredTokenError, AccountTakedownError.
        """
        claims = self._read(token, _REFRESH_HEADER if refresh else _ACCESS_HEADER, now)
        row = conn.execute(
            f"SELECT s.revoked_at IS NOT NULL, s.scope, {ACCOUNT_COLUMNS}"
            " FROM session s JOIN account ON account.id = s.account WHERE s.id = %s",
            [claims["sid"]],
        ).fetchone()
        if row is None or row[0]:
            raise ExpiredTokenError("Token has been revoked")
        scope, account = row[1], Account(*row[2:])
        if account.did != claims["sub"] or account.status == DELETED:
            raise InvalidTokenError("Token could not be verified")
        if account.status == TAKENDOWN and (refresh or scope != scopes.TAKENDOWN):
            raise AccountTakedownError("Account has been taken down")
        return Login(account, claims["sid"], scope)

    def prune(self, conn: Conn, now: datetime) -> None:
        """Delete expired sessions and refresh tokens."""
        conn.execute("DELETE FROM session WHERE expires_at < %s", [now])
        conn.execute("DELETE FROM refresh_token WHERE expires_at < %s", [now])

    def _revoke(self, conn: Conn, session: str, now: datetime) -> None:
        conn.execute(
            "UPDATE session SET revoked_at = %s WHERE id = %s AND revoked_at IS NULL",
            [now, session],
        )

    def _mint(
        self, did: str, session: str, scope: str, refresh_id: str, now: datetime
    ) -> Tokens:
        issued = int(now.timestamp())
        common: dict[str, Any] = {
            "sub": did,
            "aud": self._audience,
            "sid": session,
            "iat": issued,
        }
        access = common | {
            "scope": scope,
            "exp": issued + self._access_lifetime,
            # Makes two tokens of one second differ.
            "jti": secrets.token_urlsafe(9),
        }
        refresh = common | {
            "scope": scopes.REFRESH,
            "exp": issued + self._refresh_lifetime,
            "jti": refresh_id,
        }
        return Tokens(
            self._sign(_ACCESS_HEADER, access), self._sign(_REFRESH_HEADER, refresh)
        )

    def _sign(self, header: str, claims: dict[str, Any]) -> str:
        body = header + "." + encode_base64url(json.dumps(claims).encode())
        return body + "." + self._mac(body)

    def _mac(self, body: str) -> str:
        return encode_base64url(
            hmac.new(self._key, body.encode("ascii"), hashlib.sha256).digest()
        )

    def _read(self, token: str, header: str, now: datetime) -> dict[str, Any]:
        if len(token) > _MAX_TOKEN_CHARS or not token.isascii():
            raise InvalidTokenError("Token could not be verified")
        body, _, mac = token.rpartition(".")
        # Compared as text, the MAC has one spelling; compared as a whole, the header
        # allows no other algorithm.
        if not hmac.compare_digest(mac, self._mac(body)):
            raise InvalidTokenError("Token could not be verified")
        head, _, payload = body.partition(".")
        if head != header:
            raise InvalidTokenError("Bad token type")
        claims = json.loads(decode_base64url(payload))
        if claims["aud"] != self._audience:
            raise InvalidTokenError("Bad token audience")
        if claims["exp"] <= now.timestamp():
            raise ExpiredTokenError("Token has expired")
        return dict(claims)


def revoke_all(conn: Conn, account: int, now: datetime) -> None:
    """Revoke every session of an account."""
    conn.execute(
        "UPDATE session SET revoked_at = %s WHERE account = %s AND revoked_at IS NULL",
        [now, account],
    )


def revoke_app(conn: Conn, account: int, name: str, now: datetime) -> None:
    """Revoke the sessions of one app password."""
    conn.execute(
        "UPDATE session SET revoked_at = %s"
        " WHERE account = %s AND app_password = %s AND revoked_at IS NULL",
        [now, account, name],
    )
