"""Content identifiers, their text, and links of other forms."""

from __future__ import annotations

from hashlib import sha256, sha512

import pytest

from protocol.data.cid import (
    Cid,
    cid_for,
    cid_from_text,
    cid_to_text,
    is_cid,
    is_data_cid,
    is_link,
    raw_cid_for,
)
from protocol.errors import InvalidEncodingError

DIGEST = sha256(b"a block").digest()
BLESSED = b"\x01\x71\x12\x20" + DIGEST
TEXT = "bafyreidzzqxyytsl7lwzqbjcl6kolkwgqp2zqf2bqynvijewbfyfgxf5dq"


def test_cid_of_blocks_and_blobs() -> None:
    assert cid_for(b"a block") == BLESSED
    assert raw_cid_for(b"a block") == b"\x01\x55\x12\x20" + DIGEST
    assert is_cid(BLESSED)
    assert is_data_cid(BLESSED)
    assert is_cid(raw_cid_for(b""))
    assert not is_data_cid(raw_cid_for(b""))
    assert not is_cid(BLESSED[:-1])
    assert not is_cid(BLESSED + b"x")


def test_cid_text_of_the_empty_map() -> None:
    assert cid_to_text(cid_for(b"\xa0")) == (
        "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"
    )


def test_cid_text_round_trip() -> None:
    text = cid_to_text(BLESSED)
    assert len(text) == 59
    assert cid_from_text(text) == BLESSED
    assert str(Cid(BLESSED)) == text


def test_cid_text_of_version_0_is_base58() -> None:
    raw = b"\x12\x20" + sha256(b"").digest()
    assert str(Cid(raw)) == "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "b",
        cid_to_text(BLESSED).upper(),
        cid_to_text(BLESSED)[:-1],
        cid_to_text(BLESSED) + "a",
        cid_to_text(BLESSED) + "\n",
        "c" + cid_to_text(BLESSED)[1:],
        # Nonzero spare bits in the last letter.
        cid_to_text(BLESSED)[:-1] + "b",
        cid_to_text(b"\x01\x70\x12\x20" + DIGEST),
        cid_to_text(b"\x02\x71\x12\x20" + DIGEST),
        cid_to_text(b"\x01\x71\x13\x20" + DIGEST),
        "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
    ],
    ids=range(12),
)
def test_cid_from_text_refuses_other_text(wrong: str) -> None:
    with pytest.raises(InvalidEncodingError):
        cid_from_text(wrong)


@pytest.mark.parametrize(
    ("raw", "valid"),
    [
        (BLESSED, True),
        (raw_cid_for(b""), True),
        (b"\x12\x20" + DIGEST, True),
        (b"\x12\x20" + DIGEST[:-1], False),
        (b"\x12\x20" + DIGEST + b"x", False),
        (b"\x01\x70\x12\x20" + DIGEST, True),
        (b"\x01\x71\x13\x40" + sha512(b"").digest(), True),
        (b"\x01\x71\x00\x03abc", True),
        (b"\x01\x71\x00\x00", True),
        (b"\x01\x71\x00\x41" + b"a" * 65, False),
        (b"\x01\x78\x11\x14" + DIGEST[:20], True),
        (b"\x01\x71\x12\x1f" + DIGEST[:31], True),
        (BLESSED[:-1], False),
        (BLESSED + b"x", False),
        (b"\x02\x71\x12\x20" + DIGEST, False),
        (b"\x01\xf1\x00\x12\x20" + DIGEST, False),
        (b"\x01" + b"\xff" * 8 + b"\x7f\x12\x20" + DIGEST, True),
        (b"\x01" + b"\xff" * 9 + b"\x01\x12\x20" + DIGEST, False),
        (b"\x01\x71\x12", False),
        (b"\x01\x71", False),
        (b"\x01", False),
        (b"\x01\xff", False),
        (b"", False),
    ],
)
def test_is_link(raw: bytes, valid: bool) -> None:
    assert is_link(raw) is valid
