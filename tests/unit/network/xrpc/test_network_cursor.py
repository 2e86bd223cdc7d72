from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.errors import XrpcError
from network.xrpc.cursor import open_cursor, seal_cursor

SECRET = b"s" * 32
VALUES = st.lists(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=50),
    max_size=6,
)


def refused(text: str, secret: bytes = SECRET, scope: str = "") -> bool:
    try:
        open_cursor(secret, text, scope=scope)
    except XrpcError as error:
        return (error.name, error.status) == ("InvalidCursor", 400)
    return False


@given(VALUES, st.text(max_size=20))
def test_open_returns_the_sealed_values(values: list[Any], scope: str) -> None:
    text = seal_cursor(SECRET, values, scope=scope)
    assert open_cursor(SECRET, text, scope=scope) == values
    assert text.isascii()
    assert "=" not in text


@given(VALUES, st.data())
def test_changed_cursor_is_refused(values: list[Any], data: st.DataObject) -> None:
    text = seal_cursor(SECRET, values)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019-_=+/ \n\x00é"))
    changed = text[:place] + letter + text[place + 1 :]
    assert changed == text or refused(changed)
    assert refused(text[:place])
    assert refused(text + letter)


def test_other_secrets_and_scopes_are_refused() -> None:
    text = seal_cursor(SECRET, [1, "a"], scope="ab")
    assert refused(text, b"t" * 32, "ab")
    assert refused(text, SECRET, "")
    assert refused(text, SECRET, "a")
    assert not refused(text, SECRET, "ab")


def test_scope_and_values_cannot_be_shifted_into_each_other() -> None:
    text = seal_cursor(SECRET, [1], scope="x")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    moved = base64.urlsafe_b64encode(raw[:16] + b"x" + raw[16:]).rstrip(b"=").decode()
    assert refused(moved, SECRET, "")


@pytest.mark.parametrize(
    "text",
    ["", "a", "!!!!", "A" * 22, "A" * 3_000, "[1,2]", "ＡＡＡＡ", "AAAA====" * 4],
)
def test_foreign_cursor_is_refused(text: str) -> None:
    assert refused(text)
