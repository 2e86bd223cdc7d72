"""A move without the old server: the recovery key, and a copy of the account.

The recovery key first gives the identity an interim signing key, which opens the
account at the new server. Then it names the new server and its keys.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from plc.operation_draft import create_amendment
from plc.operation_format import (
    LegacyCreate,
    Operation,
    Tombstone,
    normalize,
    operation_json,
)
from protocol.errors import ProtocolError
from protocol.identity.keys import PrivateKey
from protocol.identity.service_auth import create_service_jwt
from protocol.syntax import Did, Nsid
from service.cli.accounts.moving.friendly_move import IDENTITY, Fetch, moved_identity
from service.cli.accounts.moving.refill import SIGNING, Refill, Tell, service_did
from service.cli.accounts.moving.remote_account import SERVER
from service.cli.accounts.plc_identity import PlcIdentity, now_ms, submit
from service.operator_errors import ServiceError
from service.runtime.config import Config

_CONTEXT: Final = b"bigworld interim signing key 1"


@dataclass(slots=True)
class Rescue:
    """A move to the new server of `refill`; each step may be repeated.

    `fields` are those of createAccount.
    """

    config: Config
    key: PrivateKey
    refill: Refill
    fields: dict[str, Any]
    fetch: Fetch
    tell: Tell

    @property
    def did(self) -> Did:
        return Did(self.refill.new.did)

    def run(self) -> None:
        """Do what is not done yet. Raises ServiceError."""
        new, state = self.refill.new, self.refill.state
        if not new.try_sign_in():
            self._open()
        if not self.refill.is_home(self.fetch().state):
            self.refill.fill()
            self._change_identity()
        self.refill.finish(self.fetch().state)
        state.finished = True
        state.store(self.refill.folder)

    def _open(self) -> None:
        """Open the account at the new server, as the owner of the signing key."""
        new = self.refill.new
        identity = self.fetch()
        interim = interim_key(self.key, self.did)
        name = interim.public.did_key
        last = base_operation(identity, self.key)
        state = normalize(last)
        undoes = last != identity.last
        if undoes or state.verification_methods.get(SIGNING) != name:
            methods = dict(state.verification_methods) | {SIGNING: name}
            self._submit(identity, last, methods=methods)
            self.tell("the recovery key holds the identity")
        token = create_service_jwt(
            iss=self.did,
            aud=service_did(new),
            lxm=Nsid(f"{SERVER}.createAccount"),
            key=interim,
            now=int(time.time()),
        )
        new.create(token, self.fields | {"recoveryKey": self.key.public.did_key})
        self.tell(f"account opened at {new.url}")

    def _change_identity(self) -> None:
        """Name the new server; drop the keys below the recovery key."""
        identity = self.fetch()
        last = base_operation(identity, self.key)
        state = normalize(last)
        wanted = moved_identity(
            state, self.refill.recommended(), kept_keys(state, self.key)
        )
        operation = self._sign(
            identity,
            last,
            rotation_keys=wanted.rotation_keys,
            methods=wanted.verification_methods,
            also_known_as=wanted.also_known_as,
            services=wanted.services,
        )
        # Through the server, which announces it.
        self.refill.new.call(
            f"{IDENTITY}.submitPlcOperation", {"operation": operation_json(operation)}
        )
        self.tell("the identity names the new server")

    def _submit(
        self, identity: PlcIdentity, last: Operation | LegacyCreate, **parts: Any
    ) -> None:
        import asyncio

        operation = self._sign(identity, last, **parts)
        asyncio.run(submit(self.config, self.did, operation))

    def _sign(
        self, identity: PlcIdentity, last: Operation | LegacyCreate, **parts: Any
    ) -> Operation:
        try:
            operation = create_amendment(last, self.key, **parts)
        except ProtocolError as error:
            raise ServiceError(f"the operation is not valid: {error}") from error
        identity.require_acceptable(operation, now_ms())
        return operation


def base_operation(identity: PlcIdentity, key: PrivateKey) -> Operation | LegacyCreate:
    """Return the newest operation in force that names a key.

    Later operations have removed it, and are undone. Raises ServiceError if none names
    the key, or if it cannot undo them any more.
    """
    name = key.public.did_key
    for entry in reversed(identity.log.entries):
        operation = entry.operation
        if entry.nullified or isinstance(operation, Tombstone):
            continue
        if name in normalize(operation).rotation_keys:
            try:
                draft = create_amendment(operation, key)
            except ProtocolError as error:
                raise ServiceError(f"{name} cannot sign: {error}") from error
            identity.require_acceptable(draft, now_ms())
            return operation
    raise ServiceError(
        f"{name} is not a rotation key of {identity.did}, and never was: it belongs to"
        " another account"
    )


def kept_keys(state: Operation, key: PrivateKey) -> list[str]:
    """Return the recovery key and the rotation keys above it."""
    place = state.rotation_keys.index(key.public.did_key)
    return [*state.rotation_keys[: place + 1]]


def interim_key(key: PrivateKey, did: Did) -> PrivateKey:
    """Return the key that signs for the account until the new server does.

    It follows from the recovery key, so that an interrupted rescue goes on anywhere.
    """
    return PrivateKey("k256", sha256(_CONTEXT + did.encode() + key.to_bytes()).digest())
