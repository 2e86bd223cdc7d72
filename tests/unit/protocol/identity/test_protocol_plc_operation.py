from __future__ import annotations

import copy
from base64 import b32encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from plc.operation import (
    DAY_MS,
    HOUR_MS,
    GenesisHashError,
    InconsistentLogError,
    LateRecoveryError,
    LegacyCreate,
    LogEntry,
    MisorderedOperationError,
    Operation,
    OutrankedError,
    PlcService,
    QuotaExceededError,
    Tombstone,
    check_next_operation,
    check_quota,
    did_for_genesis,
    find_signer,
    format_time,
    normalize,
    operation_bytes,
    operation_cid,
    operation_data,
    operation_document,
    operation_json,
    parse_operation,
    parse_time,
    sign_operation,
    verify_audit_log,
)
from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.data.cbor import encode
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    InvalidSyntaxError,
    LimitExceededError,
    ProtocolError,
)
from protocol.identity.keys import K256_ORDER, P256_ORDER, PrivateKey
from protocol.syntax import Did

KEYS = tuple(
    PrivateKey.from_bytes("p256" if n % 2 else "k256", bytes([n + 1]) * 32)
    for n in range(4)
)
STRONG, MIDDLE, WEAK, STRANGER = KEYS
NAMES = tuple(key.public.did_key for key in KEYS)
START = parse_time("2026-08-01T12:00:00.000Z")
WINDOW = 72 * HOUR_MS


def operation(
    prev: str | None, signer: PrivateKey = WEAK, **changes: object
) -> Operation:
    fields: dict[str, Any] = {
        "rotation_keys": NAMES[:3],
        "verification_methods": {"atproto": NAMES[3]},
        "also_known_as": ("at://alice.test",),
        "services": {
            "atproto_pds": PlcService("AtprotoPersonalDataServer", "https://a.test")
        },
        "prev": prev,
    }
    return sign_operation(Operation(**(fields | changes)), signer)


GENESIS = operation(None)
DID = did_for_genesis(GENESIS)
GENESIS_CID = operation_cid(GENESIS)


class Log:
    """A directory in miniature: what it accepts it appends."""

    def __init__(self, did: Did = DID) -> None:
        self.did = did
        self.entries: list[LogEntry] = []

    def add(self, proposed: Operation | LegacyCreate | Tombstone, at: int) -> str:
        verdict = check_next_operation(self.did, self.entries, proposed, at)
        self.entries = [
            replace(entry, nullified=entry.nullified or entry.cid in verdict.nullified)
            for entry in self.entries
        ]
        entry = LogEntry(self.did, proposed, verdict.cid, False, at)
        self.entries.append(entry)
        return verdict.cid

    def json(self) -> list[dict[str, Any]]:
        return [entry.to_json() for entry in self.entries]


def started(at: int = START) -> Log:
    log = Log()
    log.add(GENESIS, at)
    return log


def test_the_did_is_the_hash_of_the_first_operation() -> None:
    digest = sha256(encode(operation_json(GENESIS))).digest()
    assert f"did:plc:{b32encode(digest).decode().lower()[:24]}" == DID
    verdict = check_next_operation(DID, [], GENESIS, START)
    assert verdict.signer == NAMES[2]
    assert verdict.nullified == ()
    other = Did(DID[:-1] + ("a" if DID[-1] != "a" else "b"))
    with pytest.raises(GenesisHashError):
        check_next_operation(other, [], GENESIS, START)


def test_a_log_grows_by_any_rotation_key() -> None:
    log = started()
    first = log.add(operation(GENESIS_CID, STRONG), START + 1)
    log.add(operation(first, WEAK), START + 2)
    with pytest.raises(InvalidSignatureError):
        log.add(operation(log.entries[-1].cid, STRANGER), START + 3)
    assert verify_audit_log(DID, log.json()).current.cid == log.entries[-1].cid


def test_keys_are_those_of_the_operation_before() -> None:
    log = started()
    handed_over = log.add(
        operation(GENESIS_CID, WEAK, rotation_keys=(NAMES[3],)), START + 1
    )
    with pytest.raises(InvalidSignatureError):
        log.add(operation(handed_over, STRONG), START + 2)
    log.add(operation(handed_over, STRANGER), START + 2)


def test_no_keys_left_means_no_next_operation() -> None:
    log = started()
    last = log.add(operation(GENESIS_CID, rotation_keys=()), START + 1)
    for key in KEYS:
        with pytest.raises(InvalidSignatureError):
            log.add(operation(last, key), START + 2)
    # But the fork before it is still open to a stronger key.
    log.add(operation(GENESIS_CID, MIDDLE), START + 3)


def test_a_key_twice_counts_by_its_first_place() -> None:
    keys = (NAMES[1], NAMES[0], NAMES[1])
    genesis = operation(None, MIDDLE, rotation_keys=keys)
    log = Log(did_for_genesis(genesis))
    first = log.add(genesis, START)
    log.add(operation(first, MIDDLE), START + 1)
    with pytest.raises(OutrankedError):
        log.add(operation(first, STRONG), START + 2)


@pytest.mark.parametrize(
    "prev", [None, "", "bafyreib", GENESIS_CID.upper(), "z" + GENESIS_CID[1:]]
)
def test_prev_is_the_cid_of_an_operation_that_stands(prev: str | None) -> None:
    with pytest.raises(MisorderedOperationError):
        started().add(operation(prev), START + 1)


def test_a_first_operation_names_none_before_it() -> None:
    orphan = operation(GENESIS_CID)
    with pytest.raises(MisorderedOperationError):
        check_next_operation(did_for_genesis(orphan), [], orphan, START)
    with pytest.raises(MisorderedOperationError):
        check_next_operation(DID, [], Tombstone(GENESIS_CID), START)


@pytest.mark.parametrize("later", [0, -1])
def test_times_rise(later: int) -> None:
    with pytest.raises(MisorderedOperationError):
        started().add(operation(GENESIS_CID), START + later)


@pytest.mark.parametrize(("after_ms", "lives"), [(-1, True), (0, True), (1, False)])
def test_recovery_within_72_hours_inclusive(after_ms: int, lives: bool) -> None:
    log = started(START - 10 * DAY_MS)
    stolen = log.add(operation(GENESIS_CID, WEAK, also_known_as=()), START)
    rescue = operation(GENESIS_CID, MIDDLE)
    if not lives:
        with pytest.raises(LateRecoveryError):
            log.add(rescue, START + WINDOW + after_ms)
        return
    cid = log.add(rescue, START + WINDOW + after_ms)
    audited = verify_audit_log(DID, log.json())
    assert audited.current.cid == cid
    assert [e.nullified for e in audited.entries] == [False, True, False]
    with pytest.raises(MisorderedOperationError):
        log.add(operation(stolen, STRONG), START + WINDOW + 2)


def test_the_window_counts_from_the_first_operation_to_be_undone() -> None:
    log = started(START - DAY_MS)
    first = log.add(operation(GENESIS_CID, WEAK), START)
    log.add(operation(first, WEAK), START + WINDOW)
    with pytest.raises(LateRecoveryError):
        log.add(operation(GENESIS_CID, STRONG), START + WINDOW + 1)
    log.add(operation(first, STRONG), START + WINDOW + 1)


@pytest.mark.parametrize(
    ("signed_by", "forked_by"),
    [(s, f) for s in range(3) for f in range(4)],
)
def test_only_a_stronger_key_forks(signed_by: int, forked_by: int) -> None:
    log = started()
    log.add(operation(GENESIS_CID, KEYS[signed_by]), START + 1)
    fork = operation(GENESIS_CID, KEYS[forked_by], also_known_as=())
    if forked_by < signed_by:
        log.add(fork, START + 2)
    else:
        expected = InvalidSignatureError if forked_by == 3 else OutrankedError
        with pytest.raises(expected):
            log.add(fork, START + 2)


def test_what_matters_is_who_signed_the_first_undone_operation() -> None:
    log = started()
    first = log.add(operation(GENESIS_CID, MIDDLE), START + 1)
    log.add(operation(first, WEAK), START + 2)
    with pytest.raises(OutrankedError):
        log.add(operation(GENESIS_CID, MIDDLE, also_known_as=()), START + 3)
    log.add(operation(first, MIDDLE), START + 3)


def test_three_forks_inside_each_other() -> None:
    log = started()
    a = log.add(operation(GENESIS_CID, WEAK), START + 1)
    b = log.add(operation(a, WEAK), START + 2)
    c = log.add(operation(b, WEAK), START + 3)
    log.add(operation(b, MIDDLE), START + 4)
    log.add(operation(a, STRONG), START + 5)
    last = log.add(operation(GENESIS_CID, MIDDLE), START + 6)
    audited = verify_audit_log(DID, log.json())
    assert [e.nullified for e in audited.entries] == [False, *[True] * 5, False]
    assert audited.current.cid == last
    for gone in (a, b, c):
        with pytest.raises(MisorderedOperationError):
            log.add(operation(gone, STRONG), START + 7)


def test_a_tombstone_ends_a_log_until_a_stronger_key_undoes_it() -> None:
    log = started()
    grave = log.add(sign_operation(Tombstone(GENESIS_CID), MIDDLE), START + 1)
    assert isinstance(verify_audit_log(DID, log.json()).current.operation, Tombstone)
    for key in KEYS:
        with pytest.raises(MisorderedOperationError):
            log.add(operation(grave, key), START + 2)
        with pytest.raises(MisorderedOperationError):
            log.add(sign_operation(Tombstone(grave), key), START + 2)
    with pytest.raises(OutrankedError):
        log.add(operation(GENESIS_CID, MIDDLE), START + 2)
    log.add(operation(GENESIS_CID, STRONG), START + 2)
    verify_audit_log(DID, log.json())


def legacy(signer: PrivateKey = WEAK) -> LegacyCreate:
    return sign_operation(
        LegacyCreate(NAMES[2], NAMES[0], "bob.test", "pds.bob.test"), signer
    )


@pytest.mark.parametrize("signer", [STRONG, WEAK])
def test_old_identities_begin_with_a_create_operation(signer: PrivateKey) -> None:
    create = legacy(signer)
    log = Log(did_for_genesis(create))
    first = log.add(create, START)
    # The recovery key is the stronger of the two.
    log.add(operation(first, WEAK), START + 1)
    log.add(operation(first, STRONG), START + 2)
    verify_audit_log(log.did, log.json())
    with pytest.raises(MisorderedOperationError):
        log.add(create, START + 3)


def test_an_old_operation_stands_for_a_new_one() -> None:
    state = normalize(legacy())
    assert state.rotation_keys == (NAMES[0], NAMES[2])
    assert state.also_known_as == ("at://bob.test",)
    assert state.services["atproto_pds"].endpoint == "https://pds.bob.test"


def flip_s(key: PrivateKey) -> Callable[[bytes], bytes]:
    order = K256_ORDER if key.curve == "k256" else P256_ORDER

    def flip(raw: bytes) -> bytes:
        return raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")

    return flip


def der(raw: bytes) -> bytes:
    return encode_dss_signature(
        int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    )


@pytest.mark.parametrize("key", [STRONG, MIDDLE], ids=["k256", "p256"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text, key: text + "==",
        lambda text, key: text + "\n",
        lambda text, key: text[:-1] + chr(ord(text[-1]) + 1),
        lambda text, key: encode_base64url(flip_s(key)(decode_base64url(text))),
        lambda text, key: encode_base64url(der(decode_base64url(text))),
        lambda text, key: encode_base64url(decode_base64url(text) + b"\0"),
        lambda text, key: text[:-2],
        lambda text, key: "",
        lambda text, key: "é" * 86,
        lambda text, key: encode_base64url(bytes(64)),
    ],
    ids=[
        "padded",
        "newline",
        "bits",
        "high-s",
        "der",
        "long",
        "short",
        "none",
        "latin",
        "zero",
    ],
)
def test_a_signature_has_one_text(
    key: PrivateKey, change: Callable[[str, PrivateKey], str]
) -> None:
    log = started()
    good = operation(GENESIS_CID, key)
    with pytest.raises(InvalidSignatureError):
        log.add(replace(good, sig=change(good.sig, key)), START + 1)
    log.add(good, START + 1)


def test_a_signature_of_another_size_is_no_signature() -> None:
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
        operation_json(legacy()) | {"prev": GENESIS_CID},
        operation_json(legacy()) | {"handle": None},
    ],
)
def test_refuses_what_is_no_operation(value: object) -> None:
    with pytest.raises(InvalidEncodingError):
        parse_operation(value)


@pytest.mark.parametrize(
    "good", [GENESIS, legacy(), sign_operation(Tombstone(GENESIS_CID), WEAK)]
)
def test_reads_what_it_writes(good: Operation | LegacyCreate | Tombstone) -> None:
    again = parse_operation(copy.deepcopy(operation_json(good)))
    assert again == good
    assert operation_bytes(again) == operation_bytes(good)


def test_bounds_of_reading() -> None:
    keys = [NAMES[0]] * 10
    parse_operation(json_of(rotationKeys=keys))
    parse_operation(json_of(rotationKeys=[]))
    with pytest.raises(LimitExceededError):
        parse_operation(json_of(rotationKeys=[*keys, NAMES[0]]))
    room = 7_500 - len(encode(json_of(alsoKnownAs=["x" * 300])))
    parse_operation(json_of(alsoKnownAs=["x" * (300 + room)]))
    with pytest.raises(LimitExceededError):
        parse_operation(json_of(alsoKnownAs=["x" * (301 + room)]))


def history(*ages_ms: int, nullified: bool = False) -> list[LogEntry]:
    return [LogEntry(DID, GENESIS, "", nullified, START - age) for age in ages_ms]


@pytest.mark.parametrize(
    ("limit", "window"), [(10, HOUR_MS), (30, DAY_MS), (100, 7 * DAY_MS)]
)
def test_quotas(limit: int, window: int) -> None:
    full = history(*[window - 1] * limit)
    with pytest.raises(QuotaExceededError):
        check_quota(full, START)
    check_quota(full[1:], START)
    check_quota(full, START + 1)
    check_quota(history(*[0] * limit, nullified=True), START)


@pytest.mark.parametrize(
    "text",
    [
        "2026-08-01T12:00:00Z",
        "2026-08-01T12:00:00.0000Z",
        "2026-08-01T12:00:00.000+00:00",
        "2026-08-01 12:00:00.000Z",
        "2026-02-30T12:00:00.000Z",
        "",
    ],
)
def test_times_have_one_form(text: str) -> None:
    with pytest.raises(InvalidSyntaxError):
        parse_time(text)
    assert format_time(START) == "2026-08-01T12:00:00.000Z"


def forked_log() -> Log:
    log = started()
    log.add(operation(GENESIS_CID, WEAK), START + 1)
    second = log.add(operation(GENESIS_CID, STRONG), START + 2)
    log.add(operation(second, WEAK, also_known_as=()), START + 3)
    return log


def change(index: int, **fields: object) -> Callable[[list[Any]], None]:
    def apply(entries: list[Any]) -> None:
        entries[index] |= fields

    return apply


def change_operation(index: int, **fields: object) -> Callable[[list[Any]], None]:
    def apply(entries: list[Any]) -> None:
        entries[index]["operation"] |= fields

    return apply


LIES: dict[str, Callable[[list[Any]], object]] = {
    "nothing": lambda e: e.clear(),
    "first left out": lambda e: e.pop(0),
    "middle left out": lambda e: e.pop(2),
    "swapped": lambda e: e.insert(1, e.pop(2)),
    "twice": lambda e: e.append(e[-1]),
    "first twice": lambda e: e.insert(1, e[0]),
    "an entry of another type": lambda e: e.append("x"),
    "did": change(3, did="did:plc:" + "a" * 24),
    "cid of another entry": change(3, cid=GENESIS_CID),
    "cid of nothing": change(3, cid=GENESIS_CID[:-1] + "a"),
    "no cid": change(3, cid=None),
    "nullified set": change(3, nullified=True),
    "nullified cleared": change(1, nullified=False),
    "nullified both": change(2, nullified=True),
    "nullified a number": change(1, nullified=1),
    "time falls": change(2, createdAt=format_time(START)),
    "time stands": change(3, createdAt=format_time(START + 2)),
    "time too late": change(2, createdAt=format_time(START + 2 + WINDOW)),
    "time in another form": change(2, createdAt="2026-08-01T12:00:00Z"),
    "time a number": change(2, createdAt=START + 2),
    "operation": change(3, operation={}),
    "prev": change_operation(3, prev=GENESIS_CID),
    "handle": change_operation(3, alsoKnownAs=["at://evil.test"]),
    "keys": change_operation(3, rotationKeys=[NAMES[3]]),
    "endpoint": change_operation(3, services={}),
    "signature": change_operation(3, sig=GENESIS.sig),
    "first operation": change_operation(0, alsoKnownAs=["at://evil.test"]),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lying_mirror_is_caught(name: str) -> None:
    entries = forked_log().json()
    verify_audit_log(DID, entries)
    LIES[name](entries)
    with pytest.raises(ProtocolError):
        verify_audit_log(DID, entries)


@pytest.mark.parametrize("index", [1, 3])
def test_what_a_mirror_leaves_out_cannot_be_seen(index: int) -> None:
    entries = forked_log().json()
    del entries[index]
    verify_audit_log(DID, entries)


def test_the_log_of_another_did() -> None:
    with pytest.raises(InconsistentLogError):
        verify_audit_log(Did("did:plc:" + "a" * 24), forked_log().json())


def test_a_log_is_bounded() -> None:
    with pytest.raises(LimitExceededError):
        verify_audit_log(DID, [{}] * 10_001)


def test_old_faults_pass_only_by_their_cid() -> None:
    log = started()
    bad = operation(GENESIS_CID, WEAK)
    bad = replace(bad, sig=encode_base64url(flip_s(WEAK)(decode_base64url(bad.sig))))
    cid = operation_cid(bad)
    entries = [*log.json(), LogEntry(DID, bad, cid, False, START + 1).to_json()]
    with pytest.raises(InvalidSignatureError):
        verify_audit_log(DID, entries)
    audited = verify_audit_log(DID, entries, tolerated={cid})
    assert audited.tolerated == (cid,)
    # It is the weakest: any rotation key may undo it, whenever, and it undoes nothing.
    rescue = operation(GENESIS_CID, WEAK, also_known_as=())
    entries[1]["nullified"] = True
    for later in (2, 73 * HOUR_MS):
        undoing = LogEntry(DID, rescue, operation_cid(rescue), False, START + later)
        verify_audit_log(DID, [*entries, undoing.to_json()], tolerated={cid})
    forged = [
        log.json()[0],
        LogEntry(DID, rescue, operation_cid(rescue), True, START + 1).to_json(),
        LogEntry(DID, bad, cid, False, START + 2).to_json(),
    ]
    with pytest.raises(OutrankedError):
        verify_audit_log(DID, forged, tolerated={cid})


def test_document_and_data() -> None:
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
    assert data.keys() == {
        "did",
        "rotationKeys",
        "verificationMethods",
        "alsoKnownAs",
        "services",
    }
    unknown = operation(None, verification_methods={"other": "did:key:z6MkUnknown"})
    (method,) = operation_document(DID, unknown)["verificationMethod"]
    assert method["publicKeyMultibase"] == "z6MkUnknown"
