"""Times as whole microseconds since 1970, for keysets and cursors.

Exact for every year, unlike a float: 2**53 microseconds are 285 years.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970, negative before."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND


def micros_sql(column: str) -> str:
    """Return the SQL expression of `to_micros` of a timestamptz."""
    # extract gives numeric, which is exact.
    return f"(extract(epoch FROM {column}) * 1000000)::int8"
