"""Datetimes: the calendar and their time."""

from __future__ import annotations

import pytest

from protocol.errors import InvalidSyntaxError
from protocol.syntax import datetime_from_us, datetime_us, is_datetime


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2024-02-29T00:00:00Z", True),
        ("2023-02-29T00:00:00Z", False),
        ("1900-02-29T00:00:00Z", False),
        ("2000-02-29T00:00:00Z", True),
        ("2024-04-31T00:00:00Z", False),
        ("2024-12-31T23:59:59Z", True),
        ("2024-12-31T23:59:60Z", False),
        ("2024-12-31T24:00:00Z", False),
        ("2024-12-31T00:00:00+23:59", True),
        ("2024-12-31T00:00:00+24:00", False),
        ("2024-12-31T00:00:00+00:60", False),
        ("2024-12-31T00:00:00-00:00", False),
        ("2024-12-31T00:00:00-00:01", True),
        ("0000-02-29T00:00:00Z", True),
        ("0000-01-01T00:00:00-01:00", True),
        ("0000-01-01T00:59:59+01:00", False),
        ("0000-01-01T01:00:00+01:00", True),
        ("2024-01-01T00:00:00.Z", False),
        ("2024-01-01T00:00:00." + "0" * 21 + "Z", False),
    ],
)
def test_is_datetime(text: str, valid: bool) -> None:
    assert is_datetime(text) is valid
    if not valid:
        with pytest.raises(InvalidSyntaxError):
            datetime_us(text)


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.000001+01:00", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1969-12-31T16:00:00-08:00", 0),
        ("2026-10-01T12:00:00.123456789Z", 1_790_856_000_123_456),
        ("2024-02-29T12:00:00.5Z", 1_709_208_000_500_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999_000),
        ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
    ],
)
def test_datetime_us(text: str, time_us: int) -> None:
    assert datetime_us(text) == time_us


def test_datetime_from_us() -> None:
    assert datetime_from_us(0) == "1970-01-01T00:00:00.000Z"
    assert datetime_from_us(-1) == "1969-12-31T23:59:59.999Z"
    assert datetime_from_us(1_709_208_000_500_999) == "2024-02-29T12:00:00.500Z"
    assert datetime_from_us(-62_167_219_200_000_000) == "0000-01-01T00:00:00.000Z"
    for outside in (-62_167_219_200_000_001, 253_402_300_800_000_000):
        with pytest.raises(InvalidSyntaxError):
            datetime_from_us(outside)
