from __future__ import annotations

import random
from typing import Any

import pytest

from protocol.data import cbor
from protocol.data.cid import BLOB_PREFIX, Cid, cid_for
from protocol.errors import (
    InvalidEncodingError,
    InvalidSignatureError,
    LimitExceededError,
)
from protocol.identity.keys import PrivateKey
from protocol.limits import MAX_REV_AHEAD_US
from protocol.repo.commit import (
    open_head,
    parse_commit,
    sign_commit,
    verify_commit_signature,
)
from protocol.syntax import Did, Tid, tid_time_us

KEY = PrivateKey("k256", b"\x01" * 32)
PLC = Did("did:plc:" + "a" * 24)
REV = Tid("3jzfcijpj2z2a")
ROOT = cid_for(b"root")
OLDER = cid_for(b"older")


def fields() -> dict[str, Any]:
    return {"did": PLC, "version": 3, "data": Cid(ROOT), "rev": REV, "prev": None}


def sign(unsigned: dict[str, Any]) -> bytes:
    return cbor.encode({**unsigned, "sig": KEY.sign(cbor.encode(unsigned))})


@pytest.mark.parametrize(
    "did",
    [
        PLC,
        "did:web:a.test",
        "did:web:" + "a" * 60 + ".test",
        "did:web:" + "a." * 150 + "b",
    ],
)
@pytest.mark.parametrize("prev", [None, OLDER])
@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_signed_commit_is_read_and_verified(
    did: Did, prev: bytes | None, curve: Any
) -> None:
    key = PrivateKey(curve, b"\x02" * 32)
    raw = sign_commit(did, ROOT, REV, key, prev)
    cbor.check(raw)
    commit = parse_commit(raw)
    assert (commit.did, commit.version, commit.data) == (did, 3, ROOT)
    assert (commit.rev, commit.prev) == (REV, prev)
    assert verify_commit_signature(raw, key.public) == commit
    assert verify_commit_signature(raw, key.public, commit) is commit
    with pytest.raises(InvalidSignatureError):
        verify_commit_signature(raw, PrivateKey.generate(curve).public)


def test_unknown_fields_are_covered_by_the_signature() -> None:
    for extra in (
        {"zed": [1, {"a": b"\0"}]},
        {"abc": "before sig", "longer-than-all": None},
        {"a": b"csigX@" + b"\x07" * 64},
        {f"k{number:02}": number for number in range(30)},
    ):
        raw = sign({**fields(), **extra})
        assert parse_commit(raw).data == ROOT
        verify_commit_signature(raw, KEY.public)
        changed = {**cbor.decode(raw), "zed": 7}  # type: ignore[dict-item]
        with pytest.raises(InvalidSignatureError):
            verify_commit_signature(cbor.encode(changed), KEY.public)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("did", None),
        ("did", "alice.test"),
        ("did", b"did:plc:" + b"a" * 24),
        ("version", 2),
        ("version", 4),
        ("version", "3"),
        ("version", True),
        ("data", None),
        ("data", ROOT),
        ("data", Cid(BLOB_PREFIX + bytes(32))),
        ("data", "bafy"),
        ("rev", "3jzfcijpj2z2"),
        ("rev", 5),
        ("rev", None),
        ("prev", OLDER),
        ("prev", "x"),
        ("prev", False),
        ("prev", Cid(BLOB_PREFIX + bytes(32))),
    ],
)
def test_field_of_the_wrong_form_is_refused(field: str, value: Any) -> None:
    parse_commit(sign(fields()))
    with pytest.raises(InvalidEncodingError):
        parse_commit(sign({**fields(), field: value}))


@pytest.mark.parametrize("field", ["did", "version", "data", "rev", "prev", "sig"])
def test_missing_field_is_refused(field: str) -> None:
    value = cbor.decode(sign(fields()))
    assert type(value) is dict
    del value[field]
    with pytest.raises(InvalidEncodingError):
        parse_commit(cbor.encode(value))


@pytest.mark.parametrize("sig", [b"", b"\x01" * 63, b"\x01" * 65, "x" * 64, None])
def test_signature_of_the_wrong_form_is_refused(sig: Any) -> None:
    with pytest.raises(InvalidEncodingError):
        parse_commit(cbor.encode({**fields(), "sig": sig}))


@pytest.mark.parametrize(
    "raw", [b"", b"\xf6", b"\x80", b"\xa0", b"\xa1", b"\xff", cbor.encode("commit")]
)
def test_parse_commit_refuses_other_bytes(raw: bytes) -> None:
    with pytest.raises(InvalidEncodingError):
        parse_commit(raw)


@pytest.mark.parametrize("unsigned", [fields(), {**fields(), "extra": 1}])
def test_every_flipped_bit_is_refused(unsigned: dict[str, Any]) -> None:
    raw = sign(unsigned)
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InvalidEncodingError, InvalidSignatureError)):
            verify_commit_signature(bytes(flipped), KEY.public)


def test_parse_commit_agrees_with_its_fast_path() -> None:
    # A did:plc without prev is matched as a whole, anything else read by field.
    rng = random.Random(1)
    for _ in range(50):
        data = cid_for(rng.randbytes(8))
        plain = parse_commit(sign_commit(PLC, data, REV, KEY))
        general = parse_commit(sign({**fields(), "data": Cid(data), "x": 1}))
        assert (plain.did, plain.data, plain.rev, plain.prev) == (
            general.did,
            general.data,
            general.rev,
            general.prev,
        )


def test_open_head_refuses_revisions_from_the_future() -> None:
    raw, now = sign(fields()), tid_time_us(REV)
    assert open_head(raw, PLC, KEY.public, now).rev == REV
    assert open_head(raw, PLC, KEY.public, now - MAX_REV_AHEAD_US).rev == REV
    with pytest.raises(LimitExceededError):
        open_head(raw, PLC, KEY.public, now - MAX_REV_AHEAD_US - 1)
    with pytest.raises(LimitExceededError):
        open_head(sign(fields() | {"rev": "jzzzzzzzzzzzz"}), PLC, None, now)
