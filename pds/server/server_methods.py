"""com.atproto.server.*: accounts, logins, tokens for other services."""

from __future__ import annotations

import hmac
import re
import unicodedata
from typing import Any, Final

from psycopg.errors import UniqueViolation

from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of, shown_handle, utc_now
from pds.exceptions import (
    AccountTakedownError,
    BadExpirationError,
    ExpiredTokenError,
    HandleNotAvailableError,
    InvalidInviteCodeError,
    InvalidPasswordError,
    InvalidRequestError,
    InvalidTokenError,
    WrongPasswordError,
)
from pds.identity.handles import parse_requested_handle, require_local
from pds.proxy import PROTECTED_METHODS, parse_service_ref
from pds.server import lifecycle
from pds.server.accounts import (
    ACTIVE,
    ROTATION_ROLE,
    SIGNING_ROLE,
    SUSPENDED,
    TAKENDOWN,
    Account,
    NewAccount,
    find_account,
    find_password,
    get_account,
)
from pds.server.passwords import (
    MAX_PASSWORD_CHARS,
    MIN_PASSWORD_CHARS,
    check_password,
    hash_password,
)
from pds.server.sessions import Tokens
from plc.operation_draft import create_genesis
from protocol.errors import ProtocolError
from protocol.identity.keys import PrivateKey, parse_did_key
from protocol.identity.service_auth import DEFAULT_LIFETIME_S, create_service_jwt
from protocol.limits import MAX_SERVICE_JWT_LIFETIME_S
from protocol.syntax import Did, Nsid, is_did

_NS: Final = "com.atproto.server"
REFRESH_SESSION: Final = f"{_NS}.refreshSession"
DELETE_SESSION: Final = f"{_NS}.deleteSession"

# The methods whose bearer token is a refresh token.
REFRESH_METHODS: Final = frozenset({REFRESH_SESSION, DELETE_SESSION})

MAX_EMAIL_CHARS: Final = 254
_EMAIL = re.compile(r"[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+")


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _ServerMethods(host)
    server.add(f"{_NS}.describeServer", methods.describe_server)
    server.add(f"{_NS}.createAccount", methods.create_account)
    server.add(f"{_NS}.createSession", methods.create_session)
    server.add(REFRESH_SESSION, methods.refresh_session, "required")
    server.add(f"{_NS}.getSession", methods.get_session, "required")
    server.add(DELETE_SESSION, methods.delete_session, "required")
    server.add(
        f"{_NS}.getAccountInviteCodes", methods.get_account_invite_codes, "required"
    )
    server.add(f"{_NS}.getServiceAuth", methods.get_service_auth, "required")
    server.add(f"{_NS}.activateAccount", methods.activate_account, "required")
    server.add(f"{_NS}.deactivateAccount", methods.deactivate_account, "required")
    server.add(f"{_NS}.deleteAccount", methods.delete_account)
    # Settings of clients list them; none can be created here.
    server.add(f"{_NS}.listAppPasswords", lambda _: {"passwords": []}, "required")


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

    async def create_account(self, call: Call) -> dict[str, Any]:
        settings = self._host.settings
        given = call.input
        self._host.limits.sign_up(call)
        self._check_invite(given.get("inviteCode"))
        if "did" in given or "plcOp" in given:
            raise InvalidRequestError(
                "existing accounts from other servers are not accepted"
            )
        handle = parse_requested_handle(given["handle"], dev=settings.dev)
        require_local(handle, settings.domains)
        email = _check_email(given.get("email"))
        with self._host.claim_handle(handle):
            # A taken handle is reported before a bad password, as on the reference PDS.
            await self._host.run(self._require_free, handle, email)
            password = _check_new_password(given.get("password"))
            recovery_key = _check_recovery_key(given.get("recoveryKey"))
            return await self._create(handle, email, password, recovery_key)

    async def _create(
        self, handle: str, email: str | None, password: str, recovery_key: str | None
    ) -> dict[str, Any]:
        host = self._host
        hashed = await host.hashing.run(hash_password, password)
        signing, rotation = PrivateKey.generate(), PrivateKey.generate()
        rotation_keys = [rotation.public.did_key]
        if recovery_key is not None:
            # The account's own key outranks this server's.
            rotation_keys.insert(0, recovery_key)
        did, operation = create_genesis(
            signing_key=signing.public.did_key,
            rotation_keys=rotation_keys,
            handle=handle,
            pds_url=host.settings.origin,
            signer=rotation,
        )
        await host.directory.submit(did, operation)
        new = NewAccount(
            did=did,
            handle=handle,
            email=email,
            password=hashed,
            signing_key=host.vault.seal(signing, did=did, role=SIGNING_ROLE),
            rotation_key=host.vault.seal(rotation, did=did, role=ROTATION_ROLE),
            signing_did_key=signing.public.did_key,
        )
        account, tokens = await host.run(self._store_account, new, signing)
        return {
            "accessJwt": tokens.access,
            "refreshJwt": tokens.refresh,
            "handle": handle,
            "did": did,
            "didDoc": host.did_document(account),
        }

    def _require_free(self, handle: str, email: str | None) -> None:
        with self._host.reading() as conn:
            if find_account(conn, handle) is not None:
                raise HandleNotAvailableError(f"Handle already taken: {handle}")
            if email is not None and find_password(conn, email) is not None:
                raise InvalidRequestError(f"Email already taken: {email}")

    def _store_account(
        self, new: NewAccount, key: PrivateKey
    ) -> tuple[Account, Tokens]:
        host = self._host
        now = utc_now()
        try:
            with host.pool.connection() as conn:
                account_id = lifecycle.create_account(
                    conn, new, key, host.clock.next(), now
                )
        except UniqueViolation as error:
            raise HandleNotAvailableError("Handle or email already taken") from error
        with host.pool.connection() as conn:
            tokens = host.sessions.open(conn, account_id, new.did, now)
            return get_account(conn, account_id), tokens

    def _check_invite(self, code: str | None) -> None:
        wanted = self._host.settings.invite_code
        if wanted is None:
            return
        if code is None:
            raise InvalidInviteCodeError("No invite code provided")
        if not hmac.compare_digest(code.encode(), wanted.encode()):
            raise InvalidInviteCodeError("Provided invite code not available")

    def get_account_invite_codes(self, call: Call) -> dict[str, Any]:
        """Return the codes that the account may give away.

        Accounts hold none: the one code of this server belongs to its operator.
        """
        return {"codes": []}

    async def create_session(self, call: Call) -> dict[str, Any]:
        host = self._host
        identifier = _strip_marks(call.input["identifier"]).removeprefix("@")
        if not identifier.startswith("did:"):
            identifier = identifier.lower()
        found = await self._check_password(call, identifier, call.input["password"])
        account, tokens = await host.run(self._open_session, found)
        return self._session(account) | _tokens(tokens)

    async def _check_password(self, call: Call, identifier: str, password: str) -> int:
        """Return the account id of a login. Raises WrongPasswordError."""
        host = self._host
        found = await host.run(self._find_password, identifier)
        # Counted by account, since its handle, DID and email are one name.
        host.limits.log_in(call, identifier if found is None else str(found[0]))
        stored = None if found is None else found[1]
        if (
            not await host.hashing.run(check_password, password, stored)
            or found is None
        ):
            raise WrongPasswordError("Invalid identifier or password")
        return found[0]

    def _find_password(self, identifier: str) -> tuple[int, str] | None:
        if "\0" in identifier:
            # Postgres text holds no NUL.
            return None
        with self._host.reading() as conn:
            return find_password(conn, identifier)

    def _open_session(self, account_id: int) -> tuple[Account, Tokens]:
        host = self._host
        with host.pool.connection() as conn:
            account = get_account(conn, account_id)
            if account.status in (TAKENDOWN, SUSPENDED):
                raise AccountTakedownError("Account has been taken down")
            tokens = host.sessions.open(conn, account.id, account.did, utc_now())
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

    def activate_account(self, call: Call) -> None:
        with self._host.pool.connection() as conn:
            lifecycle.activate(conn, login_of(call).account.id, utc_now())

    def deactivate_account(self, call: Call) -> None:
        with self._host.pool.connection() as conn:
            lifecycle.deactivate(conn, login_of(call).account.id, utc_now())

    async def delete_account(self, call: Call) -> None:
        """Delete an account; `token` is one of its access tokens.

        This server sends no mail: an open session replaces the code from a mail.
        """
        self._host.limits.delete_account(call)
        did, token = call.input["did"], call.input["token"]
        await self._check_password(call, did, call.input["password"])
        await self._host.run(self._delete, did, token)

    def _delete(self, did: str, token: str) -> None:
        host = self._host
        now = utc_now()
        with host.pool.connection() as conn:
            login = host.sessions.authenticate(conn, token, now)
            if login.account.did != did:
                raise InvalidTokenError("Token is for another account")
            lifecycle.delete(conn, login.account, now)
        host.keys.forget(login.account.id)

    def _session(self, account: Account) -> dict[str, Any]:
        session: dict[str, Any] = {
            "handle": shown_handle(account),
            "did": account.did,
            "didDoc": self._host.did_document(account),
            "active": account.active,
            "emailConfirmed": False,
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


def _check_new_password(password: str | None) -> str:
    if password is None:
        raise InvalidPasswordError("Password is required")
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise InvalidPasswordError(
            f"Password must have {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS}"
            " characters"
        )
    return password


def _check_email(email: str | None) -> str | None:
    if email is None:
        return None
    if len(email) > MAX_EMAIL_CHARS or _EMAIL.fullmatch(email) is None:
        raise InvalidRequestError("This email address is not supported")
    return email.lower()


def _check_recovery_key(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return parse_did_key(text).did_key
    except ProtocolError as error:
        raise InvalidRequestError(f"recoveryKey: {error}") from error


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
