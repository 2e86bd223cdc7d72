"""com.atproto.identity.*Plc*: operations of did:plc identities, for moving accounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from network.errors import IdentityError, NetworkError
from network.xrpc.server import Call, XrpcServer
from pds.context import PdsContext, login_of, utc_now
from pds.exceptions import InvalidRequestError
from pds.identity.document_check import DocumentCheck
from pds.mail import Mail
from pds.server import lifecycle
from pds.server.accounts import Account, find_recovery_key
from pds.server.email_tokens import PLC_OPERATION
from plc.operation_draft import check_submission, create_amendment
from plc.operation_format import (
    LegacyCreate,
    Operation,
    PlcService,
    normalize,
    operation_json,
    parse_operation,
)
from protocol.errors import ProtocolError
from protocol.identity.did_document import PDS_SERVICE, PDS_TYPE, SIGNING_KEY
from protocol.syntax import Did, is_plc_did

_NS: Final = "com.atproto.identity"
_SIGNING: Final = SIGNING_KEY.removeprefix("#")
_PDS: Final = PDS_SERVICE.removeprefix("#")

_TEXT: Final = """\
An app asks to change the identity of your account {handle}, for example to move it to
another server. To allow that, enter this code in the app:

    {token}

It is valid for 15 minutes. Give it to nobody: whoever has it can take over your
account. If you did not ask for it, change your password.
"""


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _PlcMethods(host)
    server.add(f"{_NS}.getRecommendedDidCredentials", methods.recommend, "required")
    server.add(
        f"{_NS}.requestPlcOperationSignature", methods.request_signature, "required"
    )
    server.add(f"{_NS}.signPlcOperation", methods.sign, "required")
    server.add(f"{_NS}.submitPlcOperation", methods.submit, "required")


class _PlcMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host
        self._documents = DocumentCheck(host)

    async def recommend(self, call: Call) -> dict[str, Any]:
        """Return the identity that lets this server host the account.

        The owner's own rotation keys stay above this server's key.
        """
        account = login_of(call).account
        recommended: dict[str, Any] = {
            "verificationMethods": {_SIGNING: account.signing_did_key},
            "services": {
                _PDS: {"type": PDS_TYPE, "endpoint": self._host.settings.origin}
            },
        }
        if account.handle is not None:
            recommended["alsoKnownAs"] = [f"at://{account.handle}"]
        if is_plc_did(account.did):
            recommended["rotationKeys"] = await self._rotation_keys(account)
        return recommended

    async def _rotation_keys(self, account: Account) -> list[str]:
        last = await self._host.directory.last_operation(Did(account.did))
        present = normalize(last).rotation_keys
        ours = await self._host.run(self._documents.rotation_key, account)
        key = ours.public.did_key
        if key in present:
            return [*present[: present.index(key)], key]
        # On its way here: the keys in force may be those of the server that it leaves.
        named = await self._host.run(self._recovery_key, account)
        return [key] if named is None else [named, key]

    def _recovery_key(self, account: Account) -> str | None:
        with self._host.reading() as conn:
            return find_recovery_key(conn, account.id)

    async def request_signature(self, call: Call) -> None:
        host = self._host
        account = _require_plc(login_of(call).account)
        host.mailer.require()
        if account.email is None:
            raise InvalidRequestError("account does not have an email address")
        host.limits.mail(call, account.did)
        token = await host.run(self._issue, account)
        text = _TEXT.format(handle=account.handle, token=token)
        await host.mailer.send(
            Mail(account.email, "A change of your account's identity", text)
        )

    def _issue(self, account: Account) -> str:
        with self._host.pool.connection() as conn:
            return self._host.email_tokens.issue(
                conn, account.id, PLC_OPERATION, utc_now()
            )

    async def sign(self, call: Call) -> dict[str, Any]:
        host, given = self._host, call.input
        account = _require_plc(login_of(call).account)
        token = given.get("token")
        if not token:
            raise InvalidRequestError(
                "email confirmation token required to sign PLC operations"
            )
        host.limits.change_handle(call, account.did)
        await host.run(self._check_token, account, token)
        last = await host.directory.last_operation(Did(account.did))
        signer = await host.run(self._documents.rotation_key, account)
        try:
            operation = create_amendment(last, signer, **_parts(last, given))
        except ProtocolError as error:
            raise InvalidRequestError(f"PLC operation: {error}") from error
        # Last, so that a failure before does not use up the token.
        await host.run(self._use_token, account, token)
        return {"operation": operation_json(operation)}

    def _check_token(self, account: Account, token: str) -> None:
        with self._host.reading() as conn:
            self._host.email_tokens.check(
                conn, account.id, PLC_OPERATION, token, utc_now()
            )

    def _use_token(self, account: Account, token: str) -> None:
        with self._host.pool.connection() as conn:
            self._host.email_tokens.use(
                conn, account.id, PLC_OPERATION, token, utc_now()
            )

    async def submit(self, call: Call) -> None:
        host = self._host
        account = _require_plc(login_of(call).account)
        host.limits.change_handle(call, account.did)
        try:
            operation = parse_operation(call.input["operation"])
            if not isinstance(operation, Operation):
                raise InvalidRequestError("Invalid operation")
            check_submission(operation)
        except ProtocolError as error:
            raise InvalidRequestError(f"Invalid operation: {error}") from error
        rotation = await host.run(self._documents.rotation_key, account)
        self._require_ours(account, operation, rotation.public.did_key)
        await host.directory.submit(Did(account.did), operation)
        await host.run(self._announce, account)
        try:
            await host.identity.resolve_did(account.did, refresh=True, insist=1)
        except (IdentityError, NetworkError):
            # The operation is in force; the cached document expires.
            return

    def _require_ours(
        self, account: Account, operation: Operation, rotation: str
    ) -> None:
        """Raise InvalidRequestError for an operation that leads away from here."""
        if rotation not in operation.rotation_keys:
            raise InvalidRequestError(
                "Rotation keys do not include server's rotation key"
            )
        service = operation.services.get(_PDS)
        if service is None or service.type != PDS_TYPE:
            raise InvalidRequestError("Incorrect type on atproto_pds service")
        if service.endpoint.rstrip("/") != self._host.settings.origin:
            raise InvalidRequestError("Incorrect endpoint on atproto_pds service")
        if operation.verification_methods.get(_SIGNING) != account.signing_did_key:
            raise InvalidRequestError("Incorrect signing key")
        names = operation.also_known_as
        if account.handle is not None and names[:1] != (f"at://{account.handle}",):
            raise InvalidRequestError("Incorrect handle in alsoKnownAs")

    def _announce(self, account: Account) -> None:
        with self._host.pool.connection() as conn:
            lifecycle.announce_identity(conn, account, utc_now())


def _require_plc(account: Account) -> Account:
    if not is_plc_did(account.did):
        raise InvalidRequestError(f"not a did:plc: {account.did}")
    return account


def _parts(last: Operation | LegacyCreate, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the requested parts of an operation, in its own strict form."""
    value = operation_json(normalize(last))
    for name in ("rotationKeys", "alsoKnownAs", "verificationMethods", "services"):
        value[name] = given.get(name, value[name])
    wanted = parse_operation(value)
    assert isinstance(wanted, Operation)
    services: Mapping[str, PlcService] = wanted.services
    return {
        "rotation_keys": wanted.rotation_keys,
        "methods": wanted.verification_methods,
        "also_known_as": wanted.also_known_as,
        "services": services,
    }
