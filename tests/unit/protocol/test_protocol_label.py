from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from protocol.data.cbor import encode
from protocol.errors import (
    InvalidRecordError,
    InvalidSignatureError,
    LimitExceededError,
)
from protocol.identity.keys import K256_ORDER, PrivateKey
from protocol.label import (
    Label,
    current_labels,
    is_in_force,
    parse_label,
    sign_label,
    verify_label,
)
from protocol.syntax import Datetime, Did, Uri, datetime_us

KEY = PrivateKey.from_bytes("k256", b"\x21" * 32)
OTHER = PrivateKey.from_bytes("k256", b"\x22" * 32)
SRC = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
POST = Uri("at://did:plc:yk4dd2qkboz2yv6tpubpc6co/app.bsky.feed.post/3k2yihcrp6f2c")
CID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
NOW = datetime_us("2026-08-01T12:00:00Z")


def draft(**changes: Any) -> Label:
    fields: dict[str, Any] = {
        "src": SRC,
        "uri": POST,
        "val": "spam",
        "cts": Datetime("2026-08-01T10:00:00.000Z"),
    }
    return Label(**(fields | changes))


SIGNED = sign_label(draft(cid=CID, exp=Datetime("2026-09-01T10:00:00Z")), KEY)


def value(**changes: object) -> dict[str, object]:
    return SIGNED.to_value() | changes


def test_a_signed_label_is_read_and_verified() -> None:
    label = parse_label(value())
    assert label == SIGNED
    assert label.ver == 1
    verify_label(label, KEY.public)


def test_the_signature_is_over_the_canonical_bytes_of_the_schemas_fields() -> None:
    fields = {k: v for k, v in value().items() if k != "sig"}
    assert SIGNED.sig == KEY.sign(encode(fields))
    verify_label(parse_label(value(**{"$type": "x", "extra": [1]})), KEY.public)


@pytest.mark.parametrize(
    "change",
    [
        {"src": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"},
        {"uri": SRC},
        {"cid": None},
        {"val": "ham"},
        {"neg": True},
        {"cts": "2026-08-01T10:00:00Z"},
        {"exp": None},
        {"ver": None},
        {"sig": None},
        {"sig": bytes(64)},
        {"sig": b""},
    ],
)
def test_every_field_is_signed(change: dict[str, object]) -> None:
    with pytest.raises(InvalidSignatureError):
        verify_label(parse_label(value(**change)), KEY.public)


def test_another_key_and_another_form_of_the_signature() -> None:
    with pytest.raises(InvalidSignatureError):
        verify_label(SIGNED, OTHER.public)
    assert SIGNED.sig is not None
    s = K256_ORDER - int.from_bytes(SIGNED.sig[32:], "big")
    high = replace(SIGNED, sig=SIGNED.sig[:32] + s.to_bytes(32, "big"))
    with pytest.raises(InvalidSignatureError):
        verify_label(high, KEY.public)


def test_a_label_of_no_version_is_not_a_signed_one() -> None:
    signed = replace(draft(), sig=KEY.sign(encode(draft().to_value())))
    with pytest.raises(InvalidSignatureError):
        verify_label(signed, KEY.public)


def test_neg_false_may_be_signed_or_only_said() -> None:
    plain = sign_label(draft(neg=False), KEY)
    assert plain.neg is None
    verify_label(replace(plain, neg=False), KEY.public)
    said = replace(draft(neg=False), ver=1)
    verify_label(replace(said, sig=KEY.sign(encode(said.to_value()))), KEY.public)
    negated = sign_label(draft(neg=True), KEY)
    verify_label(negated, KEY.public)
    with pytest.raises(InvalidSignatureError):
        verify_label(replace(negated, neg=False), KEY.public)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {},
        value(src="alice.test"),
        value(src=None),
        value(uri="no uri"),
        value(uri=None),
        value(val=""),
        value(val=7),
        value(val="\ud800"),
        value(cts="yesterday"),
        value(cts=None),
        value(exp="never"),
        value(exp=1),
        value(cid="!"),
        value(cid=b"\x01"),
        value(neg="false"),
        value(neg=0),
        value(ver=2),
        value(ver=True),
        value(ver="1"),
        value(sig="c2ln"),
        value(sig={"$bytes": "c2ln"}),
    ],
)
def test_refuses_what_is_no_label(bad: object) -> None:
    with pytest.raises(InvalidRecordError):
        parse_label(bad)


def test_bound_of_the_value() -> None:
    parse_label(value(val="é" * 64))
    with pytest.raises(LimitExceededError):
        parse_label(value(val="é" * 64 + "x"))


def test_expiry() -> None:
    assert is_in_force(draft(), NOW)
    assert is_in_force(draft(exp="2026-08-01T12:00:00.000001Z"), NOW)
    assert not is_in_force(draft(exp="2026-08-01T12:00:00Z"), NOW)
    assert not is_in_force(draft(neg=True), NOW)


def test_the_latest_label_speaks() -> None:
    early = draft()
    # Later by time, though not by text.
    gone = draft(neg=True, cts="2026-08-01T08:00:00-05:00")
    other = draft(val="rude", exp="2026-08-01T11:00:00Z")
    account = draft(uri=SRC)
    assert current_labels([early, gone, other, account], NOW) == [account]
    assert current_labels([gone, early], NOW) == []
    back = replace(early, cts=Datetime("2026-08-01T13:00:01Z"))
    assert current_labels([back, gone, early], NOW) == [back]
    tie = replace(gone, neg=None)
    assert current_labels([gone, tie], NOW) == [tie]
    assert current_labels([tie, gone], NOW) == []
