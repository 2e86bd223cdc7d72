"""Decoded records, kept by address and stored bytes: no entry can be out of date.

Feeds show the same posts and profiles again and again. Decoding one costs ten times
the lookup. Shared by all requests: nobody changes a decoded record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from cachetools import LRUCache

from storage.records.addresses import Address

MAX_ENTRY_BYTES: Final = 16_384
"""Larger records are not kept: one would displace a hundred usual ones."""
MAX_BYTES: Final = 8_000_000
"""Bytes of the encoded records in it. Decoded they take about ten times that."""
_ENTRY_BYTES: Final = 200

T = TypeVar("T")


class RecordCache(Generic[T]):
    """Least recently used decoded records, within MAX_BYTES. Safe in threads."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._lock = threading.Lock()
        self._held: LRUCache[tuple[Address, bytes], tuple[T, int]] = LRUCache(
            max_bytes, getsizeof=lambda entry: entry[1]
        )

    def read(
        self, address: Address, stored: bytes | None, size: int, decode: Callable[[], T]
    ) -> T:
        """Return the decoded record of `size` bytes, from the cache if it is there.

        A record without `stored` bytes at hand is not kept.
        """
        if stored is None or size > MAX_ENTRY_BYTES:
            return decode()
        key = (address, stored)
        with self._lock:
            held = self._held.get(key)
        if held is None:
            held = decode(), size + _ENTRY_BYTES
            with self._lock:
                self._held[key] = held
        return held[0]
