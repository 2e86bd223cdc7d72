from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.errors import InvalidSyntaxError, LimitExceededError
from protocol.identity.did_document import (
    LABELER_SERVICE,
    MAX_ENTRIES,
    PDS_TYPE,
    DidDocument,
    Service,
    parse_did_document,
    parse_origin,
)
from protocol.identity.keys import PrivateKey, PublicKey, encode_base58
from protocol.syntax import parse_did

DID = parse_did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
WEB = parse_did("did:web:alice.example.com")
KEY = PrivateKey.from_bytes("k256", b"\x01" * 32).public
OTHER = PrivateKey.from_bytes("p256", b"\x02" * 32).public
PDS = "https://pds.example.com"

Document = dict[str, Any]


def method(
    name: str = "#atproto", key: PublicKey = KEY, did: str = DID, **changes: object
) -> Document:
    return {
        "id": did + name,
        "type": "Multikey",
        "controller": did,
        "publicKeyMultibase": key.multikey,
    } | changes


def service(endpoint: object = PDS, **changes: object) -> Document:
    return {
        "id": "#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": endpoint,
    } | changes


def document(**changes: object) -> Document:
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": DID,
        "alsoKnownAs": ["at://alice.example.com"],
        "verificationMethod": [method()],
        "service": [service()],
    } | changes


def read(**changes: object) -> DidDocument:
    return parse_did_document(document(**changes), DID)


# Changes of the document, and the expected parts.
TABLE: dict[str, tuple[Document, Document]] = {
    "usual document": (
        {},
        {
            "did": DID,
            "handles": ("alice.example.com",),
            "signing_key": KEY.did_key,
            "label_key": None,
            "pds": PDS,
            "services": (Service("#atproto_pds", PDS_TYPE, PDS),),
        },
    ),
    "absolute ids": (
        {"service": [service(id=DID + "#atproto_pds")]},
        {"pds": PDS, "signing_key": KEY.did_key},
    ),
    "relative ids": (
        {"verificationMethod": [method(id="#atproto")]},
        {"signing_key": KEY.did_key},
    ),
    "id of another DID": (
        {"verificationMethod": [method(id=WEB + "#atproto")]},
        {"signing_key": None},
    ),
    "id without a fragment sign": (
        {"verificationMethod": [method(id="atproto")]},
        {"signing_key": None},
    ),
    "first of two keys": (
        {"verificationMethod": [method(), method(key=OTHER)]},
        {"signing_key": KEY.did_key},
    ),
    "valid key after an invalid one": (
        {"verificationMethod": [method(publicKeyMultibase="z6Mk"), method(key=OTHER)]},
        {"signing_key": OTHER.did_key},
    ),
    "own key after that of another controller": (
        {"verificationMethod": [method(controller=WEB), method(key=OTHER)]},
        {"signing_key": OTHER.did_key},
    ),
    "key only for labels": (
        {"verificationMethod": [method("#atproto_label")]},
        {"signing_key": None, "label_key": KEY.did_key},
    ),
    "both keys": (
        {"verificationMethod": [method("#atproto_label", OTHER), method()]},
        {"signing_key": KEY.did_key, "label_key": OTHER.did_key},
    ),
    "unknown key type": (
        {"verificationMethod": [method(type="Ed25519VerificationKey2020")]},
        {"signing_key": None},
    ),
    "key as a number": (
        {"verificationMethod": [method(publicKeyMultibase=7)]},
        {"signing_key": None},
    ),
    "methods as an object": (
        {"verificationMethod": method()},
        {"signing_key": None, "pds": PDS},
    ),
    "methods as a list of strings": (
        {"verificationMethod": [DID + "#atproto"]},
        {"signing_key": None},
    ),
    "methods null": ({"verificationMethod": None}, {"signing_key": None}),
    "first of two services, invalid": (
        {"service": [service("https://user@pds.example.com"), service()]},
        {"pds": None, "services": ()},
    ),
    "service after one of another type": (
        {"service": [service("https://x.example.com", type="Other"), service()]},
        {"pds": PDS},
    ),
    "type as a list": (
        {"service": [service(type=["AtprotoPersonalDataServer"])]},
        {"pds": None, "services": ()},
    ),
    "endpoint as a list": ({"service": [service([PDS])]}, {"pds": None}),
    "endpoint as an object": ({"service": [service({"uri": PDS})]}, {"pds": None}),
    "services as an object": ({"service": service()}, {"pds": None}),
    "http endpoint": ({"service": [service("http://pds.example.com")]}, {"pds": None}),
    "endpoint with a path": (
        {"service": [service(PDS + "/xrpc")]},
        {"pds": None},
    ),
    "endpoint with a query": ({"service": [service(PDS + "?x")]}, {"pds": None}),
    "endpoint with a slash and a port": (
        {"service": [service("HTTPS://PDS.Example.com:8443/")]},
        {"pds": "https://pds.example.com:8443"},
    ),
    "alsoKnownAs as a string": (
        {"alsoKnownAs": "at://alice.example.com"},
        {"handles": ()},
    ),
    "handles in order between other names": (
        {
            "alsoKnownAs": [
                "https://alice.example.com",
                "at://B.example.com",
                "at://not_a_handle.com",
                "at://a.example.com/path",
                7,
                "at://a.example.com",
                "at://b.example.com",
            ]
        },
        {"handles": ("b.example.com", "a.example.com")},
    ),
    "no handles": ({"alsoKnownAs": []}, {"handles": ()}),
    "overlong texts": (
        {"service": [service("https://" + "a." * 2_000 + "com")]},
        {"pds": None},
    ),
    "unknown properties": (
        {"authentication": [DID + "#atproto"], "deactivated": True},
        {"pds": PDS, "signing_key": KEY.did_key},
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_document_parts(name: str) -> None:
    changes, expected = TABLE[name]
    found = read(**changes)
    assert {part: getattr(found, part) for part in expected} == expected


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        "did",
        {},
        document(id=WEB),
        document(id=DID.upper()),
        document(id=DID + "#"),
        document(id=[DID]),
    ],
)
def test_document_of_another_did_is_refused(bad: object) -> None:
    with pytest.raises(InvalidSyntaxError):
        parse_did_document(bad, DID)


@pytest.mark.parametrize("part", ["alsoKnownAs", "verificationMethod", "service"])
def test_document_with_long_lists_is_refused(part: str) -> None:
    read(**{part: ["x"] * MAX_ENTRIES})
    with pytest.raises(LimitExceededError):
        read(**{part: ["x"] * (MAX_ENTRIES + 1)})


def uncompressed(key: PublicKey) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    curve = ec.SECP256K1() if key.curve == "k256" else ec.SECP256R1()
    point = ec.EllipticCurvePublicKey.from_encoded_point(curve, key.point)
    return point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


LEGACY_TYPES = (
    "EcdsaSecp256k1VerificationKey2019",
    "EcdsaSecp256r1VerificationKey2019",
)


@pytest.mark.parametrize(
    ("kind", "wrong", "key"), [(*LEGACY_TYPES, KEY), (*LEGACY_TYPES[::-1], OTHER)]
)
@pytest.mark.parametrize("form", [uncompressed, lambda key: key.point])
def test_document_with_legacy_keys(
    kind: str, wrong: str, key: PublicKey, form: Callable[[PublicKey], bytes]
) -> None:
    legacy = method(publicKeyMultibase="z" + encode_base58(form(key)))
    found = read(verificationMethod=[legacy | {"type": kind}])
    assert found.signing_key == key.did_key
    found = read(verificationMethod=[legacy | {"type": wrong}])
    assert found.signing_key != key.did_key


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://pds.example.com", "https://pds.example.com"),
        ("https://pds.example.com:443/", "https://pds.example.com"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://pds.example.com//", None),
        ("https://pds.example.com:0", None),
        ("https://pds.example.com:65536", None),
        ("https://pds.example.com:", None),
        ("https://pds.example.com#", None),
        ("https://pds.example.com\n", None),
        ("https://pds.example.com.", None),
        ("https://pds..example.com", None),
        ("https://user:pw@pds.example.com", None),
        ("https://evil.com\\@pds.example.com", None),
        ("https://127.0.0.1", None),
        ("https://2130706433", None),
        ("https://[::1]", None),
        ("https://localhost", None),
        ("https://pds.example.cöm", None),
        ("https://", None),
        ("//pds.example.com", None),
        ("ftp://pds.example.com", None),
        ("http://pds.example.com", None),
        ("", None),
    ],
)
def test_origin_of_a_url(text: str, origin: str | None) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["http://localhost:2582", "http://127.0.0.1:2582", "https://pds.example.com"],
)
def test_development_allows_local_hosts(text: str) -> None:
    local = parse_did_document(document(service=[service(text)]), DID, dev=True)
    assert local.pds == text


def test_service_by_name_and_type() -> None:
    found = read(
        service=[
            service("https://feeds.example.com/x", id=DID + "#bsky_fg", type="A"),
            service("https://labels.example.com", id=LABELER_SERVICE, type="Other"),
            service("https://l.example.com/", id=LABELER_SERVICE, type="Labeler"),
        ]
    )
    feeds = Service("#bsky_fg", "A", "https://feeds.example.com/x")
    assert found.service("#bsky_fg") == found.service("bsky_fg") == feeds
    assert found.service("#bsky_fg", "B") is None
    assert found.service("#nothing") is None
    labeler = Service(LABELER_SERVICE, "Labeler", "https://l.example.com")
    assert found.service(LABELER_SERVICE, "Labeler") == labeler
    assert found.pds is None
