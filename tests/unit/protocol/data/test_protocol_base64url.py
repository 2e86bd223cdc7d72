from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.errors import InvalidEncodingError


@given(st.binary(max_size=200))
def test_base64url_round_trip(data: bytes) -> None:
    text = encode_base64url(data)
    assert "=" not in text
    assert decode_base64url(text) == data


def test_base64url_examples() -> None:
    assert encode_base64url(b"\xfb\xff\xfe") == "-__-"
    assert decode_base64url("") == b""
    assert decode_base64url("Zg") == b"f"


@pytest.mark.parametrize(
    "text",
    [
        *("Zg==", "Zg=", "Zm9=", "Zm9+", "Zm9/", "Zm9v\n", " Zg", "Z g", "Zé"),
        *("Zh", "Zm9vY"),
    ],
)
def test_base64url_refuses_other_text(text: str) -> None:
    with pytest.raises(InvalidEncodingError):
        decode_base64url(text)
