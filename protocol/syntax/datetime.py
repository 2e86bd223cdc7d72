"""Datetimes: the intersection of RFC 3339, ISO 8601 and HTML (specs/lexicon).

Datetimes are kept as text; their time is computed only to compare them.
"""

from __future__ import annotations

import re
from typing import NewType

from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_DATETIME_CHARS

Datetime = NewType("Datetime", str)

_DATETIME = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,20}))?"
    r"(?:Z|(?!-00:00)([+-])([01][0-9]|2[0-3]):([0-5][0-9]))",
    re.ASCII,
)

_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_TO_1970 = 719_468
_SECONDS_A_DAY = 86_400
_YEAR_0_US = -62_167_219_200_000_000


def is_datetime(text: str) -> bool:
    """Return True if `text` is a valid datetime of the year 0 or later."""
    if len(text) > MAX_DATETIME_CHARS:
        return False
    match = _DATETIME.fullmatch(text)
    if match is None:
        return False
    # Only the end of a month and the start of the year 0 need the calendar.
    if text[8:10] > "28" and not _is_day(match):
        return False
    return not text.startswith("0000-01-01") or _time_us(match) >= _YEAR_0_US


def datetime_us(text: str) -> int:
    """Return microseconds since 1970, truncated; raise InvalidSyntaxError."""
    match = _DATETIME.fullmatch(text) if is_datetime(text) else None
    if match is None:
        raise InvalidSyntaxError(f"not a datetime: {text[:80]!r}")
    return _time_us(match)


def datetime_from_us(time_us: int) -> Datetime:
    """Return the UTC datetime, with milliseconds, of `time_us` microseconds since 1970.

    Raises InvalidSyntaxError outside the years 0 to 9999.
    """
    seconds, micros = divmod(time_us, 1_000_000)
    days, seconds = divmod(seconds, _SECONDS_A_DAY)
    year, month, day = _date(days)
    if not 0 <= year <= 9999:
        raise InvalidSyntaxError("time outside the years 0 to 9999")
    hour, seconds = divmod(seconds, 3600)
    minute, second = divmod(seconds, 60)
    return Datetime(
        f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        f".{micros // 1000:03}Z"
    )


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _is_day(match: re.Match[str]) -> bool:
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    leap_day = 1 if month == 2 and _is_leap(year) else 0
    return day <= _MONTH_DAYS[month - 1] + leap_day


def _time_us(match: re.Match[str]) -> int:
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    seconds = _days(year, month, day) * _SECONDS_A_DAY
    seconds += hour * 3600 + minute * 60 + second
    fraction, sign, offset_hours, offset_minutes = match.group(7, 8, 9, 10)
    if sign is not None:
        offset = int(offset_hours) * 3600 + int(offset_minutes) * 60
        seconds += offset if sign == "-" else -offset
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return seconds * 1_000_000 + micros


# Years counted from March end with the leap day. The standard library's calendar
# begins at year 1, so it cannot be used.
def _days(year: int, month: int, day: int) -> int:
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - _DAYS_TO_1970


def _date(days: int) -> tuple[int, int, int]:
    era, day_of_era = divmod(days + _DAYS_TO_1970, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (
        365 * year_of_era + year_of_era // 4 - year_of_era // 100
    )
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + year_of_era + (month <= 2), month, day
