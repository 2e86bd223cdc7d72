"""Limit of record bytes and items in one response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from protocol.data.cbor import Value
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.record_codec import decompress, record_size
from storage.records.record_rows import fetch_large

HELD: Final = """
    substr(r.value, 1, 32), octet_length(r.value),
    CASE WHEN octet_length(r.value) <= 16384 THEN r.value END
"""
"""The last columns of a query over `record r`, for `Held`."""


class Held(NamedTuple):
    """A record as stored; `stored` only if it is small."""

    address: Address
    head: bytes
    length: int
    stored: bytes | None


class Allowance:
    """Remaining bytes and items of decoded values: an empty map is one byte, and
    seventy in memory.

    Small records come first, so that large ones do not displace them. A record that
    does not fit is treated as missing.
    """

    def __init__(self, most_bytes: int, most_items: int) -> None:
        self.bytes_left = most_bytes
        self.items_left = most_items
        self.is_spent = False
        """True once a record did not fit."""

    def admit(self, rows: Iterable[Held]) -> Iterator[tuple[Held, int]]:
        """Yield the rows that fit, each with its size, the smallest first."""
        sized = ((record_size(row.head, row.length), row) for row in rows)
        for size, row in sorted(sized, key=lambda pair: pair[0]):
            if size > self.bytes_left:
                self.is_spent = True
                return
            self.bytes_left -= size
            yield row, size

    def take(self, items: int) -> bool:
        """Take the items of a decoded value if they fit; return True if they do."""
        if items > self.items_left:
            self.is_spent = True
            return False
        self.items_left -= items
        return True


def read_block(conn: Conn, row: Held) -> bytes:
    """Return the exact bytes of a record."""
    return decompress(row.stored or fetch_large(conn, *row.address))


def count_items(value: Value) -> int:
    """Return the number of values in a value, itself included."""
    if isinstance(value, dict):
        return 1 + sum(map(count_items, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(count_items, value))
    return 1
