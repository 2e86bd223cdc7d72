"""The DID document and the plain data of a PLC operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from plc.operation_format import LegacyCreate, Operation, normalize
from protocol.data.cbor import Value
from protocol.errors import InvalidSyntaxError
from protocol.identity.did_document import MULTIKEY_TYPE
from protocol.identity.keys import DID_KEY_PREFIX, Curve, parse_did_key
from protocol.syntax import Did

_CONTEXT: Final = (
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/multikey/v1",
)
_SUITES: Final[Mapping[Curve, str]] = {
    "k256": "https://w3id.org/security/suites/secp256k1-2019/v1",
    "p256": "https://w3id.org/security/suites/ecdsa-2019/v1",
}


def operation_document(
    did: Did, operation: Operation | LegacyCreate
) -> dict[str, Value]:
    """Return the DID document (JSON) of `did` in the state of `operation`.

    Keys of unknown types are included.
    """
    state = normalize(operation)
    context = list(_CONTEXT)
    methods: list[Value] = []
    for name, key in state.verification_methods.items():
        suite = _suite(key)
        if suite is not None and suite not in context:
            context.append(suite)
        methods.append(
            {
                "id": f"{did}#{name}",
                "type": MULTIKEY_TYPE,
                "controller": did,
                "publicKeyMultibase": key.removeprefix(DID_KEY_PREFIX),
            }
        )
    return {
        "@context": list[Value](context),
        "id": did,
        "alsoKnownAs": list(state.also_known_as),
        "verificationMethod": methods,
        "service": [
            {
                "id": f"#{name}",
                "type": service.type,
                "serviceEndpoint": service.endpoint,
            }
            for name, service in state.services.items()
        ],
    }


def operation_data(did: Did, operation: Operation | LegacyCreate) -> dict[str, Value]:
    """Return the state as `GET /{did}/data` does, without prev and sig."""
    state = normalize(operation).to_value()
    return {"did": did} | {
        name: value for name, value in state.items() if name not in ("type", "prev")
    }


def _suite(key: str) -> str | None:
    try:
        return _SUITES[parse_did_key(key).curve]
    except InvalidSyntaxError:
        return None
