"""Timestamp identifiers: 53 bits of microseconds and 10 bits of clock (specs/tid)."""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Lock
from typing import NewType

from protocol.errors import InvalidSyntaxError

Tid = NewType("Tid", str)

_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
_TID = re.compile(r"[234567abcdefghij][234567abcdefghijklmnopqrstuvwxyz]{12}", re.ASCII)
# For int(), which has its own alphabet of base 32. Both alphabets are sorted.
_TO_BASE32 = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)

_CLOCK_BITS = 10
_MAX_CLOCK_ID = 2**_CLOCK_BITS - 1
_MAX_TID = 2**63 - 1
_MAX_TIME_US = 2**53 - 1


def is_tid(text: str) -> bool:
    return len(text) == 13 and _TID.fullmatch(text) is not None


def parse_tid(text: str) -> Tid:
    """Return `text` as a TID; raise InvalidSyntaxError."""
    if not is_tid(text):
        raise InvalidSyntaxError(f"not a TID: {text[:40]!r}")
    return Tid(text)


def tid_to_int(tid: Tid) -> int:
    """Return the 63-bit number of a TID; numbers sort as the texts do."""
    return int(tid.translate(_TO_BASE32), 32)


def tid_from_int(number: int) -> Tid:
    """Return the TID of a number; raise InvalidSyntaxError beyond 63 bits."""
    if not 0 <= number <= _MAX_TID:
        raise InvalidSyntaxError(f"not the number of a TID: {number}")
    return tid_of_bits(number)


def tid_of_bits(number: int) -> Tid:
    """Return the text of a number without a check of its range."""
    return Tid(
        _ALPHABET[number >> 60]
        + _PAIRS[number >> 50 & 1023]
        + _PAIRS[number >> 40 & 1023]
        + _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


def tid_time_us(tid: Tid) -> int:
    """Return the time of a TID in microseconds since 1970."""
    return tid_to_int(tid) >> _CLOCK_BITS


def last_tid_at(time_us: int) -> Tid:
    """Return the highest TID of a microsecond.

    Raises InvalidSyntaxError for more than 53 bits.
    """
    return tid_from_int(time_us << _CLOCK_BITS | _MAX_CLOCK_ID)


class TidClock:
    """A thread-safe source of strictly rising TIDs.

    `clock_id` (0 to 1023) distinguishes writers; `now_us` returns microseconds since
    1970.
    """

    def __init__(self, clock_id: int, now_us: Callable[[], int]) -> None:
        if not 0 <= clock_id <= _MAX_CLOCK_ID:
            raise ValueError(f"a clock id is between 0 and {_MAX_CLOCK_ID}")
        self._clock_id = clock_id
        self._now_us = now_us
        self._last_us = -1
        self._lock = Lock()

    def next(self, after: Tid | None = None) -> Tid:
        """Return a TID above `after` and every earlier TID of this clock.

        Raises InvalidSyntaxError when the time does not fit 53 bits.
        """
        with self._lock:
            time_us = max(self._now_us(), self._last_us + 1)
            if after is not None:
                time_us = max(time_us, tid_time_us(after) + 1)
            if not 0 <= time_us <= _MAX_TIME_US:
                raise InvalidSyntaxError("time does not fit a TID")
            self._last_us = time_us
            return tid_from_int(time_us << _CLOCK_BITS | self._clock_id)
