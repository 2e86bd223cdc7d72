"""PLC operations as values: their three types, encoding, hash and signature
(did:plc specification v0.3). The rules of a log are in `plc.operation`.
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
from protocol.identity.keys import (
    SIGNATURE_BYTES,
    PrivateKey,
    PublicKey,
    parse_did_key,
)
from protocol.limits import MAX_PLC_OPERATION_BYTES
from protocol.syntax import Did

MAX_ROTATION_KEYS: Final = 10
PLC_ID_CHARS: Final = 24


@dataclass(frozen=True, slots=True)
class PlcService:
    """A service as an operation writes it; the document has the id around it."""

    type: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Operation:
    """The state of an identity from this operation on.

    `rotation_keys` come in order of power, strongest first. `prev` is the CID of the
    operation before, None in the first. `sig` is base64url text, "" before signing.
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
    """The first operation in the form that old identities have; read, never made."""

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
    """The operation of a JSON (or decoded DRISL) value.

    Strict about the set of fields and their types, since all of them are signed and
    hashed. Raises InvalidEncodingError for a wrong shape, LimitExceededError beyond
    7,500 bytes of DRISL or ten rotation keys.
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
        raise InvalidEncodingError("unknown type of operation")
    if len(operation_bytes(operation)) > MAX_PLC_OPERATION_BYTES:
        raise LimitExceededError(f"operation over {MAX_PLC_OPERATION_BYTES} bytes")
    return operation


def operation_json(operation: AnyOperation) -> dict[str, Value]:
    """The signed operation as a value, the same for JSON and for DRISL."""
    return operation.to_value() | {"sig": operation.sig}


def operation_bytes(operation: AnyOperation) -> bytes:
    """The DRISL bytes of the signed operation, which its CID is the hash of."""
    return _encode(operation_json(operation))


def operation_cid(operation: AnyOperation) -> str:
    """The CID text by which the next operation names this one as `prev`."""
    return cid_to_text(cid_for(operation_bytes(operation)))


def did_for_genesis(operation: Operation | LegacyCreate) -> Did:
    """The DID that this signed first operation makes."""
    digest = sha256(operation_bytes(operation)).digest()
    return Did("did:plc:" + b32encode(digest).decode("ascii").lower()[:PLC_ID_CHARS])


def sign_operation(operation: _Signable, key: PrivateKey) -> _Signable:
    """A copy of the operation with the signature of `key` (any earlier one replaced).

    Whether `key` may sign it is a question for `check_next_operation`.
    """
    signature = key.sign(_encode(operation.to_value()))
    return replace(operation, sig=encode_base64url(signature))


def find_signer(operation: AnyOperation, keys: Iterable[str]) -> int | None:
    """The index of the first of `keys` (did:key texts) that signed, or None.

    Strict low-S on both curves. A key of a kind we do not know never matches. Raises
    InvalidSignatureError when the text of the signature is not 64 bytes in canonical
    base64url: another text for the same signature would be another CID.
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
    """A legacy operation as the ordinary one it stands for. Its hash is not kept."""
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
        services={
            "atproto_pds": PlcService("AtprotoPersonalDataServer", endpoint),
        },
        prev=None,
        sig=operation.sig,
    )


def _encode(value: dict[str, Value]) -> bytes:
    """DRISL of a value of texts alone, ten times faster: libipld's encoder errs only
    where there are bytes, which an operation has none of."""
    try:
        encoded: bytes = libipld.encode_dag_cbor(value)
    except Exception:  # it names no class of its own; the strict one says what is wrong
        return encode_strictly(value)
    return encoded


# Most identities have the rotation keys of their host.
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
