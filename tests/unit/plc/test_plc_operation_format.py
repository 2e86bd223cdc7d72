"""PLC operations as values: parsing, signatures, documents."""

from __future__ import annotations

import copy
from base64 import b32encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from plc_accounts import OWNER, SERVER, legacy_create
from plc_logs import (
    DID,
    GENESIS,
    GENESIS_CID,
    KEYS,
    MIDDLE,
    NAMES,
    START,
    STRONG,
    WEAK,
    operation,
    started,
    with_high_s,
)

from plc.operation_document import operation_data, operation_document
from plc.operation_format import (
    AnyOperation,
    Tombstone,
    find_signer,
    normalize,
    operation_bytes,
    operation_json,
    parse_operation,
    sign_operation,
)
from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.data.cbor import encode
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    LimitExceededError,
)
from protocol.identity.keys import PrivateKey


def test_did_is_the_hash_of_the_first_operation() -> None:
    digest = sha256(encode(operation_json(GENESIS))).digest()
    assert f"did:plc:{b32encode(digest).decode().lower()[:24]}" == DID


def test_legacy_operation_is_normalized() -> None:
    state = normalize(legacy_create())
    assert state.rotation_keys == (OWNER.public.did_key, SERVER.public.did_key)
    assert state.also_known_as == ("at://bob.test",)
    assert state.services["atproto_pds"].endpoint == "https://pds.bob.test"


def der(raw: bytes) -> bytes:
    return encode_dss_signature(
        int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    )


CHANGES: dict[str, Callable[[str, PrivateKey], str]] = {
    "padded": lambda text, key: text + "==",
    "newline": lambda text, key: text + "\n",
    "bits": lambda text, key: text[:-1] + chr(ord(text[-1]) + 1),
    "high-s": with_high_s,
    "der": lambda text, key: encode_base64url(der(decode_base64url(text))),
    "long": lambda text, key: encode_base64url(decode_base64url(text) + b"\0"),
    "short": lambda text, key: text[:-2],
    "none": lambda text, key: "",
    "latin": lambda text, key: "é" * 86,
    "zero": lambda text, key: encode_base64url(bytes(64)),
}


@pytest.mark.parametrize("key", [STRONG, MIDDLE], ids=["k256", "p256"])
@pytest.mark.parametrize("change", CHANGES)
def test_signature_in_another_form_is_refused(key: PrivateKey, change: str) -> None:
    log = started()
    good = operation(GENESIS_CID, key)
    with pytest.raises(InvalidSignatureError):
        log.add(replace(good, sig=CHANGES[change](good.sig, key)), START + 1)
    log.add(good, START + 1)


def test_find_signer() -> None:
    for size in (0, 63, 65):
        odd = replace(GENESIS, sig=encode_base64url(bytes(size)))
        with pytest.raises(InvalidSignatureError):
            find_signer(odd, NAMES)
    assert find_signer(replace(GENESIS, sig=encode_base64url(bytes(64))), NAMES) is None
    assert find_signer(GENESIS, NAMES) == 2
    assert find_signer(GENESIS, ["did:key:z6MkUnknown", NAMES[2]]) == 1


def json_of(**changes: object) -> dict[str, Any]:
    return operation_json(GENESIS) | changes


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "plc_operation",
        {},
        json_of(type="plc_delete"),
        json_of(type=None),
        json_of(extra=1),
        {k: v for k, v in json_of().items() if k != "prev"},
        {k: v for k, v in json_of().items() if k != "sig"},
        json_of(sig=None),
        json_of(prev=7),
        json_of(rotationKeys=NAMES[0]),
        json_of(rotationKeys=[1]),
        json_of(rotationKeys=None),
        json_of(alsoKnownAs={"at": "x"}),
        json_of(verificationMethods=[["atproto", NAMES[0]]]),
        json_of(verificationMethods={"atproto": [NAMES[0]]}),
        json_of(services=[]),
        json_of(services={"atproto_pds": "https://a.test"}),
        json_of(services={"atproto_pds": {"type": "x"}}),
        json_of(services={"x": {"type": "x", "endpoint": "y", "extra": "z"}}),
        json_of(services={"x": {"type": "x", "endpoint": ["y"]}}),
        json_of(alsoKnownAs=["at://\ud800"]),
        {"type": "plc_tombstone", "prev": None, "sig": "x"},
        {"type": "plc_tombstone", "prev": "x", "sig": "x", "services": {}},
        operation_json(legacy_create()) | {"prev": GENESIS_CID},
        operation_json(legacy_create()) | {"handle": None},
    ],
)
def test_parse_operation_refuses_other_values(value: object) -> None:
    with pytest.raises(InvalidEncodingError):
        parse_operation(value)


@pytest.mark.parametrize(
    "good", [GENESIS, legacy_create(), sign_operation(Tombstone(GENESIS_CID), WEAK)]
)
def test_parse_operation_reads_operation_json(good: AnyOperation) -> None:
    again = parse_operation(copy.deepcopy(operation_json(good)))
    assert again == good
    assert operation_bytes(again) == operation_bytes(good)


def test_parse_operation_limits() -> None:
    keys = [NAMES[0]] * 10
    parse_operation(json_of(rotationKeys=keys))
    parse_operation(json_of(rotationKeys=[]))
    with pytest.raises(LimitExceededError):
        parse_operation(json_of(rotationKeys=[*keys, NAMES[0]]))
    left = 7_500 - len(encode(json_of(alsoKnownAs=["x" * 300])))
    parse_operation(json_of(alsoKnownAs=["x" * (300 + left)]))
    with pytest.raises(LimitExceededError):
        parse_operation(json_of(alsoKnownAs=["x" * (301 + left)]))


def test_operation_bytes_equal_strict_encoding() -> None:
    texts = ["", "b", "aa", "é", "\0", "日" * 9, "z" * 24, "z" * 256]
    methods = dict.fromkeys(texts, "did:key:z")
    odd = replace(GENESIS, verification_methods=methods, also_known_as=tuple(texts))
    for one in (GENESIS, odd):
        assert operation_bytes(one) == encode(operation_json(one))
    with pytest.raises(InvalidEncodingError):
        operation_bytes(replace(GENESIS, also_known_as=("\ud800",)))


def test_operation_document_and_data() -> None:
    shown = operation_document(DID, GENESIS)
    assert shown["id"] == DID
    assert shown["alsoKnownAs"] == ["at://alice.test"]
    assert shown["verificationMethod"] == [
        {
            "id": f"{DID}#atproto",
            "type": "Multikey",
            "controller": DID,
            "publicKeyMultibase": KEYS[3].public.multikey,
        }
    ]
    assert shown["service"] == [
        {
            "id": "#atproto_pds",
            "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": "https://a.test",
        }
    ]
    assert shown["@context"] == [
        "https://www.w3.org/ns/did/v1",
        "https://w3id.org/security/multikey/v1",
        "https://w3id.org/security/suites/ecdsa-2019/v1",
    ]
    data = operation_data(DID, GENESIS)
    signed = operation_json(GENESIS).keys() - {"type", "prev", "sig"}
    assert data.keys() == {"did", *signed}
    unknown = operation(None, verification_methods={"other": "did:key:z6MkUnknown"})
    (method,) = operation_document(DID, unknown)["verificationMethod"]
    assert method["publicKeyMultibase"] == "z6MkUnknown"
