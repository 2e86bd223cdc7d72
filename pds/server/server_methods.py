"""com.atproto.server.*: logins, tokens for other services, deletion."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of, shown_handle, utc_now
from pds.exceptions import (
    AccountTakedownError,
    BadExpirationError,
    ExpiredTokenError,
    InvalidRequestError,
    InvalidTokenError,
    WrongPasswordError,
)
from pds.proxy import PROTECTED_METHODS, parse_service_ref
from pds.server import lifecycle, scopes
from pds.server.accounts import (
    ACTIVE,
    SUSPENDED,
    TAKENDOWN,
    Account,
    find_password,
    get_account,
)
from pds.server.app_passwords import AppPassword
from pds.server.email_tokens import DELETE_ACCOUNT
from pds.server.passwords import (
    check_password,
)
from pds.server.sessions import Tokens
from protocol.identity.service_auth import DEFAULT_LIFETIME_S, create_service_jwt
from protocol.limits import MAX_SERVICE_JWT_LIFETIME_S
from protocol.syntax import Did, Nsid, is_did

_NS: Final = "com.atproto.server"
REFRESH_SESSION: Final = f"{_NS}.refreshSession"
DELETE_SESSION: Final = f"{_NS}.deleteSession"

# The methods whose bearer token is a refresh token.
REFRESH_METHODS: Final = frozenset({REFRESH_SESSION, DELETE_SESSION})


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _ServerMethods(host)
    server.add(f"{_NS}.describeServer", methods.describe_server)
    server.add(f"{_NS}.createSession", methods.create_session)
    server.add(REFRESH_SESSION, methods.refresh_session, "required")
    server.add(f"{_NS}.getSession", methods.get_session, "required")
    server.add(DELETE_SESSION, methods.delete_session, "required")
    server.add(f"{_NS}.getServiceAuth", methods.get_service_auth, "required")
    server.add(f"{_NS}.deleteAccount", methods.delete_account)


def bearer_token(authorization: str | None) -> str | None:
    """Return the token of an Authorization header; None without one.

    Raises InvalidTokenError, with the messages of the reference PDS, for a header that
    is malformed or of another scheme.
    """
    if not authorization:
        return None
    parts = authorization.split(" ")
    if len(parts) != 2 or not parts[1]:
        raise InvalidTokenError("Malformed authorization header")
    scheme, token = parts
    if scheme.lower() == "basic":
        raise InvalidTokenError("Unexpected authorization type")
    if scheme.lower() != "bearer":
        raise InvalidTokenError(f"Unsupported authorization type: {scheme[:80]}")
    return token


class _ServerMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host

    def describe_server(self, call: Call) -> dict[str, Any]:
        settings = self._host.settings
        return {
            "did": settings.service_did,
            "availableUserDomains": list(settings.domains),
            "inviteCodeRequired": settings.invite_code is not None,
            "phoneVerificationRequired": False,
            "blobUploadLimit": settings.max_blob_bytes,
        }

    async def create_session(self, call: Call) -> dict[str, Any]:
        host = self._host
        identifier = _strip_marks(call.input["identifier"]).removeprefix("@")
        if not identifier.startswith("did:"):
            identifier = identifier.lower()
        password = call.input["password"]
        found = await host.run(self._find_password, identifier)
        # Counted by account, since its handle, DID and email are one name.
        host.limits.log_in(call, identifier if found is None else str(found[0]))
        # Also for an unknown account, so that timing does not reveal accounts.
        account_id = 0 if found is None else found[0]
        app = await host.run(self._find_app, account_id, password)
        if found is None or app is None:
            stored = None if found is None else found[1]
            await self._require_password(password, stored)
        assert found is not None
        allowed = call.input.get("allowTakendown", False)
        account, tokens = await host.run(self._open_session, found[0], app, allowed)
        return self._session(account) | _tokens(tokens)

    async def _require_password(self, password: str, stored: str | None) -> None:
        """Raise WrongPasswordError unless `password` made `stored`."""
        if not await self._host.hashing.run(check_password, password, stored):
            raise WrongPasswordError("Invalid identifier or password")

    def _find_password(self, identifier: str) -> tuple[int, str] | None:
        if "\0" in identifier:
            # Postgres text holds no NUL.
            return None
        with self._host.reading() as conn:
            return find_password(conn, identifier)

    def _find_app(self, account: int, password: str) -> AppPassword | None:
        with self._host.reading() as conn:
            return self._host.app_passwords.find(conn, account, password)

    def _open_session(
        self, account_id: int, app: AppPassword | None, takendown: bool
    ) -> tuple[Account, Tokens]:
        """Open a session; `takendown` allows one of limited scope after a takedown."""
        host = self._host
        scope = scopes.FULL
        if app is not None:
            scope = scopes.PRIVILEGED_APP if app.privileged else scopes.APP
        with host.pool.connection() as conn:
            account = get_account(conn, account_id)
            if account.status in (TAKENDOWN, SUSPENDED):
                if app is not None:
                    raise WrongPasswordError("Invalid identifier or password")
                if not takendown:
                    raise AccountTakedownError("Account has been taken down")
                scope = scopes.TAKENDOWN
            tokens = host.sessions.open(
                conn,
                account.id,
                account.did,
                utc_now(),
                scope=scope,
                app_password=None if app is None else app.name,
            )
        return account, tokens

    def refresh_session(self, call: Call) -> dict[str, Any]:
        host = self._host
        token = bearer_token(call.headers.get("authorization"))
        assert token is not None
        with host.pool.connection() as conn:
            tokens = host.sessions.refresh(conn, token, utc_now())
        if tokens is None:
            raise ExpiredTokenError("Token has been revoked")
        return self._session(login_of(call).account) | _tokens(tokens)

    def get_session(self, call: Call) -> dict[str, Any]:
        return self._session(login_of(call).account)

    def delete_session(self, call: Call) -> None:
        token = bearer_token(call.headers.get("authorization"))
        assert token is not None
        with self._host.pool.connection() as conn:
            self._host.sessions.close(conn, token, utc_now())

    def get_service_auth(self, call: Call) -> dict[str, Any]:
        account = login_of(call).account
        audience, lxm = call.params["aud"], call.params.get("lxm")
        if "#" in audience:
            parse_service_ref(audience)
        elif not is_did(audience):
            raise InvalidRequestError("aud must be a DID or did#serviceId")
        scopes.check_service_token(login_of(call).scope, lxm)
        if lxm in PROTECTED_METHODS:
            raise InvalidRequestError(f"cannot make a token for protected method {lxm}")
        now = int(utc_now().timestamp())
        lifetime = _check_lifetime(call.params.get("exp"), now, bound=lxm is not None)
        with self._host.reading() as conn:
            key = self._host.keys.signing_key(conn, account)
        token = create_service_jwt(
            iss=Did(account.did),
            aud=audience,
            lxm=None if lxm is None else Nsid(lxm),
            key=key,
            now=now,
            lifetime=lifetime,
        )
        return {"token": token}

    async def delete_account(self, call: Call) -> None:
        """Delete an account by its password and a mailed code.

        Without mail, for lack of an address or of a mail server, an access token of a
        full session replaces the code.
        """
        host = self._host
        host.limits.delete_account(call)
        did, token = call.input["did"], call.input["token"]
        found = await host.run(self._find_password, did)
        host.limits.log_in(call, did if found is None else str(found[0]))
        await self._require_password(
            call.input["password"], None if found is None else found[1]
        )
        assert found is not None
        await host.run(self._delete, found[0], token)

    def _delete(self, account_id: int, token: str) -> None:
        host = self._host
        now = utc_now()
        with host.pool.connection() as conn:
            account = get_account(conn, account_id)
            if account.email is not None and host.mailer.can_send:
                host.email_tokens.use(conn, account.id, DELETE_ACCOUNT, token, now)
            else:
                login = host.sessions.authenticate(conn, token, now)
                if login.account.id != account.id or login.scope != scopes.FULL:
                    raise InvalidTokenError("Token is for another account")
            lifecycle.delete(conn, account, now)
        host.keys.forget(account)

    def _session(self, account: Account) -> dict[str, Any]:
        session: dict[str, Any] = {
            "handle": shown_handle(account),
            "did": account.did,
            "didDoc": self._host.did_document(account),
            "active": account.active,
            "emailConfirmed": account.email_confirmed,
        }
        if account.email is not None:
            session["email"] = account.email
        if account.status != ACTIVE:
            session["status"] = account.status
        return session


def _tokens(tokens: Tokens) -> dict[str, Any]:
    return {"accessJwt": tokens.access, "refreshJwt": tokens.refresh}


def _strip_marks(text: str) -> str:
    """Remove spaces around a name, and invisible marks from copying."""
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return visible.strip()


def _check_lifetime(expires: int | None, now: int, *, bound: bool) -> int:
    """Return the seconds of a token; `bound` if it names its one method."""
    if expires is None:
        return DEFAULT_LIFETIME_S
    lifetime = expires - now
    if lifetime <= 0:
        raise BadExpirationError("expiration is in past")
    if lifetime > MAX_SERVICE_JWT_LIFETIME_S:
        raise BadExpirationError("cannot request a token with an expiration over 1 h")
    if not bound and lifetime > DEFAULT_LIFETIME_S:
        raise BadExpirationError(
            "cannot request a method-less token with an expiration over 1 minute"
        )
    return lifetime
