"""com.atproto.server.createAccount: new accounts, and those of other servers."""

from __future__ import annotations

import hmac
import logging
import re
from dataclasses import dataclass
from typing import Any, Final

from psycopg.errors import UniqueViolation

from network.errors import XrpcError
from network.identity.service_authenticator import ServiceAuthenticator
from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, utc_now
from pds.exceptions import (
    HandleNotAvailableError,
    InvalidInviteCodeError,
    InvalidPasswordError,
    InvalidRequestError,
    WrongPasswordError,
)
from pds.identity.handles import (
    is_local,
    parse_requested_handle,
    require_local,
    require_pointing_at,
)
from pds.server import lifecycle
from pds.server.accounts import (
    ACTIVE,
    DEACTIVATED,
    DELETED,
    ROTATION_ROLE,
    SIGNING_ROLE,
    Account,
    NewAccount,
    find_account,
    find_password,
    get_account,
)
from pds.server.invites import check_code, use_code
from pds.server.passwords import MAX_PASSWORD_CHARS, MIN_PASSWORD_CHARS, hash_password
from pds.server.sessions import Tokens
from plc.operation_draft import create_genesis, create_tombstone
from plc.operation_format import Operation
from protocol.errors import ProtocolError
from protocol.identity.keys import PrivateKey, parse_did_key
from protocol.syntax import Did, Handle
from storage.postgres.crashpoint import Crashpoint, crashpoint

log = logging.getLogger(__name__)

CREATE_ACCOUNT: Final = "com.atproto.server.createAccount"

MAX_EMAIL_CHARS: Final = 254
_EMAIL = re.compile(r"[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+")
_BEARER: Final = "bearer "


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    server.add(CREATE_ACCOUNT, _SignUp(host).create_account)


@dataclass(frozen=True, slots=True)
class _Request:
    """A checked request; `did` is that of an existing account."""

    handle: str
    did: str | None
    email: str | None
    password: str
    recovery_key: str | None
    invite: str | None


class _SignUp:
    def __init__(self, host: PdsContext) -> None:
        self._host = host
        name = host.settings.service_did
        # A client retries with the token that it has; an account is created once.
        self._service_auth = ServiceAuthenticator(
            host.identity, {name, f"{name}#atproto_pds"}, use_policy="many"
        )

    async def create_account(self, call: Call) -> dict[str, Any]:
        host, given = self._host, call.input
        host.limits.sign_up(call)
        caller = await self._caller(call)
        if "plcOp" in given:
            raise InvalidRequestError('Unsupported input: "plcOp"')
        invite = await self._check_invite(given.get("inviteCode"))
        did = given.get("did")
        if did is not None and did != caller:
            raise WrongPasswordError(f"Missing auth to create account with did: {did}")
        handle = await self._check_handle(given["handle"], did)
        email = check_email(given.get("email"))
        with host.claim_handle(handle):
            # A taken handle is reported before a bad password, as on the reference PDS.
            await host.run(self._require_free, handle, email, did)
            password = check_new_password(given.get("password"))
            request = _Request(
                handle,
                did,
                email,
                await host.hashing.run(hash_password, password),
                _check_recovery_key(given.get("recoveryKey")),
                invite,
            )
            account, tokens = await self._create(request)
        return {
            "accessJwt": tokens.access,
            "refreshJwt": tokens.refresh,
            "handle": handle,
            "did": account.did,
            "didDoc": host.did_document(account),
        }

    async def _caller(self, call: Call) -> str | None:
        """Return the DID whose key signed the request's token; None without one."""
        header = call.headers.get("authorization")
        if header is None:
            return None
        if not header.lower().startswith(_BEARER):
            raise WrongPasswordError("Invalid authorization header")
        token = header[len(_BEARER) :].strip()
        return (await self._service_auth.check_token(token, call.nsid)).did

    async def _check_invite(self, code: str | None) -> str | None:
        """Return the code to use up, if any. Raises InvalidInviteCodeError."""
        wanted = self._host.settings.invite_code
        if wanted is None:
            return None
        if code is None:
            raise InvalidInviteCodeError("No invite code provided")
        if hmac.compare_digest(code.encode(), wanted.encode()):
            return None
        await self._host.run(self._require_code, code)
        return code

    def _require_code(self, code: str) -> None:
        with self._host.reading() as conn:
            check_code(conn, code)

    async def _check_handle(self, text: str, did: str | None) -> Handle:
        settings = self._host.settings
        handle = parse_requested_handle(text, dev=settings.dev)
        if did is None or is_local(handle, settings.domains):
            require_local(handle, settings.domains)
        else:
            await require_pointing_at(self._host.identity, handle, did)
        return handle

    def _require_free(self, handle: str, email: str | None, did: str | None) -> None:
        with self._host.reading() as conn:
            if did is not None:
                known = find_account(conn, did)
                if known is not None and known.status != DELETED:
                    raise InvalidRequestError(f"Account already exists: {did}")
            if find_account(conn, handle) is not None:
                raise HandleNotAvailableError(f"Handle already taken: {handle}")
            if email is not None and find_password(conn, email) is not None:
                raise InvalidRequestError(f"Email already taken: {email}")

    async def _create(self, request: _Request) -> tuple[Account, Tokens]:
        host = self._host
        signing, rotation = PrivateKey.generate(), PrivateKey.generate()
        if request.did is not None:
            return await host.run(
                self._store, request, request.did, signing, rotation, DEACTIVATED
            )
        did, operation = _genesis(
            request, signing, rotation, pds_url=host.settings.origin
        )
        await host.directory.submit(did, operation)
        crashpoint(Crashpoint.PDS_ACCOUNT_REGISTERED)
        try:
            return await host.run(self._store, request, did, signing, rotation, ACTIVE)
        except Exception:
            await self._undo(did, operation, rotation)
            raise

    async def _undo(self, did: Did, operation: Operation, key: PrivateKey) -> None:
        """End a new identity whose account could not be stored, if possible."""
        try:
            await self._host.directory.submit(did, create_tombstone(operation, key))
        except XrpcError as error:
            log.warning("the unused identity %s stays: %s", did, error)

    def _store(
        self,
        request: _Request,
        did: str,
        signing: PrivateKey,
        rotation: PrivateKey,
        status: str,
    ) -> tuple[Account, Tokens]:
        host = self._host
        now = utc_now()
        new = NewAccount(
            did=did,
            handle=request.handle,
            email=request.email,
            password=request.password,
            signing_key=host.vault.seal(signing, did=did, role=SIGNING_ROLE),
            rotation_key=host.vault.seal(rotation, did=did, role=ROTATION_ROLE),
            signing_did_key=signing.public.did_key,
            status=status,
            recovery_key=request.recovery_key,
        )
        try:
            with host.pool.connection() as conn:
                if request.invite is not None:
                    use_code(conn, request.invite, did, now)
                # The events come last: their lock is held until the commit.
                account = lifecycle.create_account(
                    conn, new, signing, host.clock.next(), now
                )
        except UniqueViolation as error:
            raise HandleNotAvailableError("Handle or email already taken") from error
        crashpoint(Crashpoint.PDS_ACCOUNT_COMMITTED)
        with host.pool.connection() as conn:
            tokens = host.sessions.open(conn, account, did, now)
            return get_account(conn, account), tokens


def _genesis(
    request: _Request, signing: PrivateKey, rotation: PrivateKey, *, pds_url: str
) -> tuple[Did, Operation]:
    rotation_keys = [rotation.public.did_key]
    if request.recovery_key is not None:
        # The account's own key outranks this server's.
        rotation_keys.insert(0, request.recovery_key)
    return create_genesis(
        signing_key=signing.public.did_key,
        rotation_keys=rotation_keys,
        handle=request.handle,
        pds_url=pds_url,
        signer=rotation,
    )


def check_new_password(password: str | None) -> str:
    """Return a password to set. Raises InvalidPasswordError."""
    if password is None:
        raise InvalidPasswordError("Password is required")
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise InvalidPasswordError(
            f"Password must have {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS}"
            " characters"
        )
    return password


def check_email(email: str | None) -> str | None:
    """Return an email address in lower case. Raises InvalidRequestError."""
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
