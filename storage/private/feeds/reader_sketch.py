"""A sketch of a set: a kilobyte that estimates the number of distinct members.

HyperLogLog with 1,024 registers: the error is about 3 %, less for small sets. Sketches
of several processes merge without loss.
"""

from __future__ import annotations

import math
from typing import Final

_BITS: Final = 10
SIZE: Final = 1 << _BITS
_HASH_BITS: Final = 64
_ALPHA: Final = 0.7213 / (1 + 1.079 / SIZE)


class ReaderSketch:
    """A sketch of 64-bit hashes."""

    __slots__ = ("_registers",)

    def __init__(self, registers: bytes = b"") -> None:
        self._registers = bytearray(registers or SIZE)
        if len(self._registers) != SIZE:
            raise ValueError(f"a sketch has {SIZE} bytes")

    def add(self, mark: int) -> None:
        """Add a member by its hash."""
        place = mark & (SIZE - 1)
        rest = (mark >> _BITS) & ((1 << (_HASH_BITS - _BITS)) - 1)
        rank = _HASH_BITS - _BITS - rest.bit_length() + 1
        if rank > self._registers[place]:
            self._registers[place] = rank

    def merge(self, other: ReaderSketch) -> None:
        """Add all members of another sketch."""
        pairs = zip(self._registers, other._registers, strict=True)
        self._registers = bytearray(map(max, pairs))

    def count(self) -> int:
        """Return the estimated number of members."""
        estimate = _ALPHA * SIZE * SIZE / sum(2.0**-r for r in self._registers)
        empty = self._registers.count(0)
        if estimate <= 2.5 * SIZE and empty:
            return round(SIZE * math.log(SIZE / empty))
        return round(estimate)

    def __bytes__(self) -> bytes:
        return bytes(self._registers)
