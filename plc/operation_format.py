"""PLC operations as values: types, encoding, hash and signature (did:plc v0.3).

The rules of a log are in `plc.operation`.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Final, TypeVar

import libipld

from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.data.cbor import Value
from protocol.data.cbor import encode as encode_strictly
from protocol.data.cid import cid_for, cid_to_text
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    InvalidSyntaxError,
    LimitExceededError,
)
from protocol.identity.keys import SIGNATURE_BYTES, PrivateKey, PublicKey, parse_did_key
from protocol.limits import MAX_PLC_OPERATION_BYTES
from protocol.syntax import Did

MAX_ROTATION_KEYS: Final = 10
PLC_ID_CHARS: Final = 24


@dataclass(frozen=True, slots=True)
class PlcService:
    """A service of an operation."""

    type: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Operation:
    """The state of an identity from this operation on.

    `rotation_keys` come strongest first. `prev` is the CID of the operation before,
    None in the first. `sig` is base64url, "" before signing.
    """

    rotation_keys: tuple[str, ...]
    verification_methods: Mapping[str, str]
    also_known_as: tuple[str, ...]
    services: Mapping[str, PlcService]
    prev: str | None
    sig: str = ""

    TYPE = "plc_operation"

    def to_value(self) -> dict[str, Value]:
        return {
            "type": self.TYPE,
            "rotationKeys": list(self.rotation_keys),
            "verificationMethods": dict(self.verification_methods),
            "alsoKnownAs": list(self.also_known_as),
            "services": {
                name: {"type": service.type, "endpoint": service.endpoint}
                for name, service in self.services.items()
            },
            "prev": self.prev,
        }


@dataclass(frozen=True, slots=True)
class LegacyCreate:
    """The legacy form of a first operation; read, never written."""

    signing_key: str
    recovery_key: str
    handle: str
    service: str
    sig: str = ""

    TYPE = "create"

    @property
    def prev(self) -> None:
        return None

    def to_value(self) -> dict[str, Value]:
        return {
            "type": self.TYPE,
            "signingKey": self.signing_key,
            "recoveryKey": self.recovery_key,
            "handle": self.handle,
            "service": self.service,
            "prev": None,
        }


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The end of an identity, unless a stronger key undoes it in time."""

    prev: str
    sig: str = ""

    TYPE = "plc_tombstone"

    def to_value(self) -> dict[str, Value]:
        return {"type": self.TYPE, "prev": self.prev}


AnyOperation = Operation | LegacyCreate | Tombstone
_Signable = TypeVar("_Signable", Operation, LegacyCreate, Tombstone)


def parse_operation(value: object) -> AnyOperation:
    """Return the operation of a JSON (or decoded DRISL) value.

    The fields are checked strictly, since all are signed. Raises InvalidEncodingError
    for a wrong form, LimitExceededError beyond 7,500 bytes of DRISL or ten rotation
    keys.
    """
    if not isinstance(value, Mapping):
        raise InvalidEncodingError("operation is not an object")
    kind = value.get("type")
    operation: AnyOperation
    if kind == Operation.TYPE:
        _check_fields(
            value,
            ["rotationKeys", "verificationMethods", "alsoKnownAs", "services", "prev"],
        )
        prev = value["prev"]
        operation = Operation(
            rotation_keys=_texts(value, "rotationKeys"),
            verification_methods=_text_map(value, "verificationMethods"),
            also_known_as=_texts(value, "alsoKnownAs"),
            services=_services(value),
            prev=None if prev is None else _text(value, "prev"),
            sig=_text(value, "sig"),
        )
        if len(operation.rotation_keys) > MAX_ROTATION_KEYS:
            raise LimitExceededError(f"over {MAX_ROTATION_KEYS} rotation keys")
    elif kind == Tombstone.TYPE:
        _check_fields(value, ["prev"])
        operation = Tombstone(prev=_text(value, "prev"), sig=_text(value, "sig"))
    elif kind == LegacyCreate.TYPE:
        _check_fields(value, ["signingKey", "recoveryKey", "handle", "service", "prev"])
        if value["prev"] is not None:
            raise InvalidEncodingError("prev of a create operation is not null")
        operation = LegacyCreate(
            signing_key=_text(value, "signingKey"),
            recovery_key=_text(value, "recoveryKey"),
            handle=_text(value, "handle"),
            service=_text(value, "service"),
            sig=_text(value, "sig"),
        )
    else:
        raise InvalidEncodingError("operation has an unknown type")
    if len(operation_bytes(operation)) > MAX_PLC_OPERATION_BYTES:
        raise LimitExceededError(f"operation over {MAX_PLC_OPERATION_BYTES} bytes")
    return operation


def operation_json(operation: AnyOperation) -> dict[str, Value]:
    """Return the signed operation as a value, for JSON and DRISL."""
    return operation.to_value() | {"sig": operation.sig}


def operation_bytes(operation: AnyOperation) -> bytes:
    """Return the DRISL bytes of the signed operation."""
    return _encode(operation_json(operation))


def operation_cid(operation: AnyOperation) -> str:
    """Return the CID text of an operation, as used in `prev`."""
    return cid_to_text(cid_for(operation_bytes(operation)))


def did_for_genesis(operation: Operation | LegacyCreate) -> Did:
    """Return the DID that a signed first operation creates."""
    digest = sha256(operation_bytes(operation)).digest()
    return Did("did:plc:" + b32encode(digest).decode("ascii").lower()[:PLC_ID_CHARS])


def sign_operation(operation: _Signable, key: PrivateKey) -> _Signable:
    """Return a copy of the operation signed with `key`."""
    signature = key.sign(_encode(operation.to_value()))
    return replace(operation, sig=encode_base64url(signature))


def find_signer(operation: AnyOperation, keys: Iterable[str]) -> int | None:
    """Return the index of the first of `keys` (did:key texts) that signed, or None.

    High-S signatures and keys of unknown types never match. Raises
    InvalidSignatureError unless the signature is 64 bytes in canonical base64url, since
    another text would give another CID.
    """
    try:
        signature = decode_base64url(operation.sig)
    except InvalidEncodingError as error:
        raise InvalidSignatureError(f"signature text: {error}") from error
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidSignatureError("signature is not 64 bytes")
    message = _encode(operation.to_value())
    for index, text in enumerate(keys):
        key = _known_key(text)
        if key is not None and key.verify(signature, message):
            return index
    return None


def normalize(operation: Operation | LegacyCreate) -> Operation:
    """Return a legacy operation as an ordinary one with the same state."""
    if isinstance(operation, Operation):
        return operation
    name = operation.handle.removeprefix("http://").removeprefix("https://")
    endpoint = operation.service
    if not endpoint.startswith(("http://", "https://")):
        endpoint = "https://" + endpoint
    return Operation(
        rotation_keys=(operation.recovery_key, operation.signing_key),
        verification_methods={"atproto": operation.signing_key},
        also_known_as=(name if name.startswith("at://") else "at://" + name,),
        services={"atproto_pds": PlcService("AtprotoPersonalDataServer", endpoint)},
        prev=None,
        sig=operation.sig,
    )


def _encode(value: dict[str, Value]) -> bytes:
    """Return the DRISL of a value without bytes, ten times faster than `cbor.encode`.

    libipld's encoder errs only on bytes, which an operation has none of.
    """
    try:
        encoded: bytes = libipld.encode_dag_cbor(value)
    except Exception:  # libipld has no exception class
        return encode_strictly(value)
    return encoded


# Most identities share the rotation keys of their host.
@lru_cache(maxsize=4_096)
def _known_key(text: str) -> PublicKey | None:
    try:
        return parse_did_key(text)
    except InvalidSyntaxError:
        return None


def _check_fields(value: Mapping[str, object], names: list[str]) -> None:
    if value.keys() != {"type", "sig", *names}:
        raise InvalidEncodingError("operation has missing or unknown fields")


def _text(value: Mapping[str, object], name: str) -> str:
    text = value[name]
    if not isinstance(text, str):
        raise InvalidEncodingError(f"{name} is not a string")
    return text


def _texts(value: Mapping[str, object], name: str) -> tuple[str, ...]:
    texts = value[name]
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise InvalidEncodingError(f"{name} is not an array of strings")
    return tuple(texts)


def _text_map(value: Mapping[str, object], name: str) -> dict[str, str]:
    entries = value[name]
    if not isinstance(entries, Mapping) or not all(
        isinstance(entry, str) for entry in entries.values()
    ):
        raise InvalidEncodingError(f"{name} is not an object of strings")
    return dict(entries)


def _services(value: Mapping[str, object]) -> dict[str, PlcService]:
    entries = value["services"]
    if not isinstance(entries, Mapping):
        raise InvalidEncodingError("services is not an object")
    services = {}
    for name, entry in entries.items():
        if not isinstance(entry, Mapping) or entry.keys() != {"type", "endpoint"}:
            raise InvalidEncodingError("a service is not a type and an endpoint")
        services[name] = PlcService(_text(entry, "type"), _text(entry, "endpoint"))
    return services
