"""New PLC operations: drafted, checked against a directory's limits, and signed.

The specification allows more in a log than directories accept today; we read the former
and write the latter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from typing import Final

from plc.operation_format import (
    MAX_ROTATION_KEYS,
    LegacyCreate,
    Operation,
    PlcService,
    Tombstone,
    did_for_genesis,
    normalize,
    operation_bytes,
    operation_cid,
    sign_operation,
)
from protocol.errors import (
    InvalidSignatureError,
    InvalidSyntaxError,
    LimitExceededError,
)
from protocol.identity.did_document import (
    PDS_SERVICE,
    PDS_TYPE,
    SIGNING_KEY,
    parse_origin,
)
from protocol.identity.keys import PrivateKey, parse_did_key
from protocol.limits import MAX_PLC_OPERATION_BYTES_SENT
from protocol.syntax import Did, normalize_handle

# Limits of the reference directory.
MAX_ALSO_KNOWN_AS: Final = 10
MAX_ALSO_KNOWN_AS_CHARS: Final = 258
MAX_SERVICES: Final = 10
MAX_METHODS: Final = 10
MAX_ID_CHARS: Final = 32
MAX_SERVICE_TYPE_CHARS: Final = 256
MAX_ENDPOINT_CHARS: Final = 512
MAX_KEY_CHARS: Final = 256

# The specification allows one to five different keys; old logs may break that.
MAX_ROTATION_KEYS_SENT: Final = 5

_SIGNING_KEY_ID: Final = SIGNING_KEY.removeprefix("#")
_PDS_ID: Final = PDS_SERVICE.removeprefix("#")
_HANDLE_SCHEME: Final = "at://"
_DID_KEY: Final = re.compile(r"did:key:z[1-9A-HJ-NP-Za-km-z]+")


def create_genesis(
    *,
    signing_key: str,
    rotation_keys: Sequence[str],
    handle: str,
    pds_url: str,
    signer: PrivateKey,
) -> tuple[Did, Operation]:
    """Return a new DID and the signed operation that registers it.

    Keys are did:key texts; `rotation_keys` come strongest first and include that of
    `signer`. `pds_url` is an origin. Raises InvalidSyntaxError, InvalidSignatureError
    or LimitExceededError.
    """
    draft = Operation(
        rotation_keys=tuple(rotation_keys),
        verification_methods={_SIGNING_KEY_ID: signing_key},
        also_known_as=(_HANDLE_SCHEME + normalize_handle(handle),),
        services={_PDS_ID: _pds(pds_url)},
        prev=None,
    )
    operation = _finish(draft, signer, draft.rotation_keys)
    return did_for_genesis(operation), operation


def create_update(
    last: Operation | LegacyCreate,
    signer: PrivateKey,
    *,
    handle: str | None = None,
    pds_url: str | None = None,
    signing_key: str | None = None,
    rotation_keys: Sequence[str] | None = None,
) -> Operation:
    """Return the signed operation after `last` that changes only the given parts.

    A new handle replaces the first one. For a recovery, `last` is the last operation to
    keep. Raises as `create_genesis`.
    """
    state = normalize(last)
    names = list(state.also_known_as)
    if handle is not None:
        name = _HANDLE_SCHEME + normalize_handle(handle)
        first = next(
            (i for i, old in enumerate(names) if old.startswith(_HANDLE_SCHEME)), None
        )
        if first is None:
            names.insert(0, name)
        else:
            names[first] = name
    methods = dict(state.verification_methods)
    if signing_key is not None:
        methods[_SIGNING_KEY_ID] = signing_key
    services = dict(state.services)
    if pds_url is not None:
        services[_PDS_ID] = _pds(pds_url)
    draft = Operation(
        rotation_keys=(
            state.rotation_keys if rotation_keys is None else tuple(rotation_keys)
        ),
        verification_methods=methods,
        also_known_as=tuple(dict.fromkeys(names)),
        services=services,
        prev=operation_cid(last),
    )
    return _finish(draft, signer, state.rotation_keys)


def create_amendment(
    last: Operation | LegacyCreate,
    signer: PrivateKey,
    *,
    rotation_keys: Sequence[str] | None = None,
    methods: Mapping[str, str] | None = None,
    also_known_as: Sequence[str] | None = None,
    services: Mapping[str, PlcService] | None = None,
) -> Operation:
    """Return the signed operation after `last` with the given parts in full.

    Parts that are None stay. Raises as `create_genesis`.
    """
    state = normalize(last)
    draft = Operation(
        rotation_keys=(
            state.rotation_keys if rotation_keys is None else tuple(rotation_keys)
        ),
        verification_methods=(
            state.verification_methods if methods is None else dict(methods)
        ),
        also_known_as=(
            state.also_known_as if also_known_as is None else tuple(also_known_as)
        ),
        services=state.services if services is None else dict(services),
        prev=operation_cid(last),
    )
    return _finish(draft, signer, state.rotation_keys)


def create_service(
    services: Mapping[str, PlcService],
    methods: Mapping[str, str],
    signer: PrivateKey,
    *,
    last: Operation | LegacyCreate | None = None,
) -> Operation:
    """Return the signed operation of a service's identity, without a handle.

    It has exactly these services and verification methods (did:key texts). `last` is
    the operation before; without one this is a genesis with the key of `signer` as its
    rotation key. Raises as `create_genesis`.
    """
    state = None if last is None else normalize(last)
    rotation_keys = (
        (signer.public.did_key,) if state is None else tuple(state.rotation_keys)
    )
    draft = Operation(
        rotation_keys=rotation_keys,
        verification_methods=dict(methods),
        also_known_as=() if state is None else state.also_known_as,
        services=dict(services),
        prev=None if last is None else operation_cid(last),
    )
    return _finish(draft, signer, rotation_keys)


def create_tombstone(last: Operation | LegacyCreate, signer: PrivateKey) -> Tombstone:
    """Return the signed end of an identity; raise InvalidSignatureError."""
    _check_signer(signer, normalize(last).rotation_keys)
    return sign_operation(Tombstone(prev=operation_cid(last)), signer)


def check_submission(operation: Operation | Tombstone) -> None:
    """Raise unless directories accept the content of a signed operation.

    Verifies sizes and counts, unique names, rotation keys of a supported curve, and
    that other keys are did:keys. Raises LimitExceededError or InvalidSyntaxError.
    """
    _bound(
        "operation, in bytes", operation_bytes(operation), MAX_PLC_OPERATION_BYTES_SENT
    )
    if isinstance(operation, Tombstone):
        return
    _bound("alsoKnownAs", operation.also_known_as, MAX_ALSO_KNOWN_AS)
    if len(set(operation.also_known_as)) < len(operation.also_known_as):
        raise InvalidSyntaxError("alsoKnownAs repeats an entry")
    for name in operation.also_known_as:
        _bound("an alsoKnownAs entry", name, MAX_ALSO_KNOWN_AS_CHARS)
    _bound("rotationKeys", operation.rotation_keys, MAX_ROTATION_KEYS)
    for key in operation.rotation_keys:
        parse_did_key(key)
    _bound("services", operation.services, MAX_SERVICES)
    for service_id, service in operation.services.items():
        _bound("a service id", service_id, MAX_ID_CHARS)
        _bound("a service type", service.type, MAX_SERVICE_TYPE_CHARS)
        _bound("a service endpoint", service.endpoint, MAX_ENDPOINT_CHARS)
    _bound("verificationMethods", operation.verification_methods, MAX_METHODS)
    for method_id, key in operation.verification_methods.items():
        _bound("a verification method id", method_id, MAX_ID_CHARS)
        _bound("a verification method key", key, MAX_KEY_CHARS)
        if _DID_KEY.fullmatch(key) is None:
            raise InvalidSyntaxError("verification method is not a did:key")


def _finish(
    draft: Operation, signer: PrivateKey, allowed: tuple[str, ...]
) -> Operation:
    _check_signer(signer, allowed)
    keys = draft.rotation_keys
    if not 0 < len(keys) <= MAX_ROTATION_KEYS_SENT or len(set(keys)) < len(keys):
        raise LimitExceededError(
            f"rotation keys must be 1 to {MAX_ROTATION_KEYS_SENT} different keys"
        )
    operation = sign_operation(replace(draft, sig=""), signer)
    check_submission(operation)
    return operation


def _check_signer(signer: PrivateKey, allowed: tuple[str, ...]) -> None:
    if signer.public.did_key not in allowed:
        raise InvalidSignatureError("signer is not one of the rotation keys")


def _pds(url: str) -> PlcService:
    origin = parse_origin(url, dev=True)
    if origin is None:
        raise InvalidSyntaxError(f"not the origin of a server: {url[:80]!r}")
    return PlcService(PDS_TYPE, origin)


def _bound(what: str, value: Sized, most: int) -> None:
    if len(value) > most:
        raise LimitExceededError(f"{what} exceeds {most}")
