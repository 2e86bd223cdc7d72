"""Canonical CBOR in plain Python: the reference for the fast paths of `cbor`.

It is slow (about ten microseconds for a like) and depends on no library.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, TypeAlias

from protocol.data.cid import Cid, is_link
from protocol.errors import InvalidEncodingError, LimitExceededError
from protocol.limits import (
    MAX_CONTAINER_ITEMS,
    MAX_FRAME_DEPTH,
    MAX_INT,
    MAX_MAP_KEY_BYTES,
    MAX_RECORD_DEPTH,
    MIN_INT,
)

# None, bool, int, str, bytes, Cid, list or dict with str keys. Any for the type
# checker: readers narrow each field by its lexicon.
Value: TypeAlias = Any

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_LINK_TAG: Final = 42
_SIMPLE_VALUES: Final[dict[int, bool | None]] = {0xF4: False, 0xF5: True, 0xF6: None}

_U16 = Struct(">H")
_U32 = Struct(">I")
_U64 = Struct(">Q")
# Arguments 24 to 27: the bytes that follow, and the least value that needs them.
_ARGUMENTS: Final = {24: (1, 24), 25: (2, 2**8), 26: (4, 2**16), 27: (8, 2**32)}


def decode(data: bytes, *, max_depth: int = MAX_RECORD_DEPTH) -> Value:
    """Return the value of canonical bytes; raises as `cbor.decode`."""
    value, position = _item(data, 0, max_depth)
    if position != len(data):
        raise InvalidEncodingError("trailing bytes after the value")
    return value


def _item(data: bytes, position: int, depth_left: int) -> tuple[Value, int]:
    if position >= len(data):
        raise InvalidEncodingError("CBOR ends early")
    head = data[position]
    major = head >> 5
    if major == _SIMPLE:
        if head not in _SIMPLE_VALUES:
            raise InvalidEncodingError("float or unknown simple value")
        return _SIMPLE_VALUES[head], position + 1
    argument, position = _argument(data, position)
    if major in (_UNSIGNED, _NEGATIVE):
        if argument > MAX_INT:
            raise InvalidEncodingError("integer outside 64 bits signed")
        return (argument if major == _UNSIGNED else -1 - argument), position
    if major == _BYTES:
        end = _end(data, position, argument)
        return data[position:end], end
    if major == _TEXT:
        end = _end(data, position, argument)
        return _text(data[position:end]), end
    if major == _TAG:
        return _link(data, position, argument)
    if depth_left < 1:
        raise LimitExceededError("CBOR nested too deep")
    if argument > MAX_CONTAINER_ITEMS:
        raise LimitExceededError("too many items in one container")
    if major == _ARRAY:
        items: list[Value] = []
        for _ in range(argument):
            item, position = _item(data, position, depth_left - 1)
            items.append(item)
        return items, position
    return _map(data, position, argument, depth_left - 1)


def _map(
    data: bytes, position: int, count: int, depth_left: int
) -> tuple[dict[str, Value], int]:
    entries: dict[str, Value] = {}
    previous = b""
    for index in range(count):
        if position >= len(data) or data[position] >> 5 != _TEXT:
            raise InvalidEncodingError("map key is not a string")
        size, position = _argument(data, position)
        if size > MAX_MAP_KEY_BYTES:
            raise LimitExceededError("map key is too long")
        end = _end(data, position, size)
        key = data[position:end]
        if index and (size, key) <= (len(previous), previous):
            raise InvalidEncodingError("map keys are unsorted or repeated")
        previous = key
        entries[_text(key)], position = _item(data, end, depth_left)
    return entries, position


def _link(data: bytes, position: int, tag: int) -> tuple[Cid, int]:
    if tag != _LINK_TAG:
        raise InvalidEncodingError("tag is not that of a link")
    if position >= len(data) or data[position] >> 5 != _BYTES:
        raise InvalidEncodingError("link is not a byte string")
    size, position = _argument(data, position)
    end = _end(data, position, size)
    raw = data[position + 1 : end]
    if data[position:end][:1] != b"\x00" or not is_link(raw):
        raise InvalidEncodingError("link is not a CID")
    return Cid(raw), end


def _argument(data: bytes, position: int) -> tuple[int, int]:
    argument = data[position] & 0x1F
    position += 1
    if argument < 24:
        return argument, position
    if argument not in _ARGUMENTS:
        raise InvalidEncodingError("indefinite or reserved length")
    size, smallest = _ARGUMENTS[argument]
    end = _end(data, position, size)
    argument = int.from_bytes(data[position:end], "big")
    if argument < smallest:
        raise InvalidEncodingError("number is longer than necessary")
    return argument, end


def _end(data: bytes, position: int, size: int) -> int:
    end = position + size
    if end > len(data):
        raise InvalidEncodingError("CBOR ends early")
    return end


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidEncodingError("text is not UTF-8") from error


def encode(value: Value) -> bytes:
    """Return the canonical bytes of a value; raises as `cbor.encode`."""
    out = bytearray()
    _append(out, value, MAX_FRAME_DEPTH)
    return bytes(out)


def _append(out: bytearray, value: Value, depth_left: int) -> None:
    kind = type(value)
    if kind is str or isinstance(value, str):
        _append_text(out, value)
    elif value is None:
        out.append(0xF6)
    elif value is True:
        out.append(0xF5)
    elif value is False:
        out.append(0xF4)
    elif kind is int or isinstance(value, int):
        if not MIN_INT <= value <= MAX_INT:
            raise InvalidEncodingError("integer outside 64 bits signed")
        if value < 0:
            _append_head(out, _NEGATIVE, -1 - value)
        else:
            _append_head(out, _UNSIGNED, value)
    elif kind is bytes:
        _append_head(out, _BYTES, len(value))
        out += value
    elif kind is Cid:
        if not is_link(value.raw):
            raise InvalidEncodingError("link is not a CID")
        out += b"\xd8\x2a"
        _append_head(out, _BYTES, len(value.raw) + 1)
        out.append(0)
        out += value.raw
    elif depth_left < 1:
        raise LimitExceededError("value is nested too deep")
    elif kind is dict:
        _append_map(out, value, depth_left - 1)
    elif kind is list or kind is tuple:
        _append_head(out, _ARRAY, len(value))
        for item in value:
            _append(out, item, depth_left - 1)
    else:
        raise InvalidEncodingError(f"cannot encode {kind.__name__} as CBOR")


def _append_map(out: bytearray, value: dict[str, Value], depth_left: int) -> None:
    _append_head(out, _MAP, len(value))
    entries = []
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidEncodingError("map key is not a string")
        raw = _utf8(key)
        entries.append((len(raw), raw, item))
    # Keys differ, so the sort never compares items.
    entries.sort()
    for size, raw, item in entries:
        _append_head(out, _TEXT, size)
        out += raw
        _append(out, item, depth_left)


def _append_text(out: bytearray, value: str) -> None:
    raw = _utf8(value)
    _append_head(out, _TEXT, len(raw))
    out += raw


def _append_head(out: bytearray, major: int, argument: int) -> None:
    head = major << 5
    if argument < 24:
        out.append(head | argument)
    elif argument < 2**8:
        out += bytes((head | 24, argument))
    elif argument < 2**16:
        out.append(head | 25)
        out += _U16.pack(argument)
    elif argument < 2**32:
        out.append(head | 26)
        out += _U32.pack(argument)
    else:
        out.append(head | 27)
        out += _U64.pack(argument)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidEncodingError("text has a lone surrogate") from error
