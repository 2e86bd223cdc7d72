"""Bounds of CBOR, checked before it is decoded: depth, sizes, number of items.

libipld recurses on the C stack up to the interpreter's recursion limit, and millions of
empty maps take a hundred times their bytes in memory.
"""

from __future__ import annotations

from sys import getrecursionlimit
from typing import Final

from protocol.errors import InvalidEncodingError, LimitExceededError
from protocol.limits import MAX_CONTAINER_ITEMS

_BYTES, _TEXT, _ARRAY, _MAP, _TAG = 2, 3, 4, 5, 6


def _whole_size(head: int) -> int:
    """Return the size of an item that its first byte determines, else 0."""
    major, argument = head >> 5, head & 0x1F
    if major in (_ARRAY, _MAP, _TAG) or argument > 27:
        return 0
    if major in (_BYTES, _TEXT):
        return 1 + argument if argument < 24 else 0
    return 1 if argument < 24 else 1 + 2 ** (argument - 24)


# Nested levels that fit the C stack of any thread.
_SAFE_LEVELS: Final = 4_096

_WHOLE_SIZES: Final = tuple(_whole_size(head) for head in range(256))


def needs_scan(size: int, large: int) -> bool:
    """Return True if CBOR of `size` bytes must be scanned before libipld decodes it.

    Above `large` the scan protects memory. Below, it protects the stack where the
    recursion limit was raised.
    """
    return size > large or (size > _SAFE_LEVELS and getrecursionlimit() > _SAFE_LEVELS)


def scan(
    data: bytes, position: int = 0, *, max_depth: int, max_items: int | None = None
) -> int:
    """Return the position after the value at `position`; checks as `scan_items`."""
    return scan_items(data, position, max_depth=max_depth, max_items=max_items)[0]


def scan_items(
    data: bytes, position: int = 0, *, max_depth: int, max_items: int | None = None
) -> tuple[int, int]:
    """Return the position after the value at `position`, and its number of items.

    Items are containers, map keys and values. Raises LimitExceededError for more than
    `max_depth` nested containers, 131,072 items in one or `max_items` in all, and
    InvalidEncodingError for truncated bytes or indefinite lengths. Does not check the
    canonical form.
    """
    size = len(data)
    items = 0
    left = 1
    stack: list[int] = []
    while True:
        while not left:
            if not stack:
                if position > size:
                    raise InvalidEncodingError("CBOR ends early")
                return position, items
            left = stack.pop()
        if position >= size:
            raise InvalidEncodingError("CBOR ends early")
        left -= 1
        head = data[position]
        whole = _WHOLE_SIZES[head]
        if whole:
            position += whole
            continue
        position += 1
        major, argument = head >> 5, head & 0x1F
        if argument > 27:
            raise InvalidEncodingError("indefinite or reserved length")
        if argument > 23:
            end = position + 2 ** (argument - 24)
            argument = int.from_bytes(data[position:end], "big")
            position = end
        if major < _ARRAY:
            position += argument
        elif major == _TAG:
            # Nested tags would have no bound.
            if position >= size or data[position] >> 5 != _BYTES:
                raise InvalidEncodingError("tag is not followed by a byte string")
            left += 1
        else:
            if argument > MAX_CONTAINER_ITEMS:
                raise LimitExceededError("too many items in one container")
            if len(stack) >= max_depth:
                raise LimitExceededError("CBOR nested too deep")
            count = argument if major == _ARRAY else 2 * argument
            items += count + 1
            if max_items is not None and items > max_items:
                raise LimitExceededError("too many items")
            stack.append(left)
            left = count
