"""The JSON form of values: {"$link": …} and {"$bytes": …} (specs/data-model).

Also a strict reader for untrusted JSON.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any, Final

import orjson

from protocol.data.cbor import Value
from protocol.data.cid import Cid, cid_from_text
from protocol.errors import InvalidEncodingError, LimitExceededError
from protocol.limits import (
    MAX_CONTAINER_ITEMS,
    MAX_INT,
    MAX_JSON_BYTES,
    MAX_JSON_ITEMS,
    MAX_RECORD_DEPTH,
    MIN_INT,
)

MAX_JSON_DEPTH: Final = 128

_LINK: Final = "$link"
_BYTES: Final = "$bytes"
_TYPE: Final = "$type"
_BLOB: Final = "blob"
_BLOB_FIELDS: Final = frozenset({_TYPE, "ref", "mimeType", "size"})
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)
# Matches unclosed strings as well, so that it scans no text twice.
_STRING = re.compile(rb'"[^"\\]*(?:\\.?[^"\\]*)*"?', re.DOTALL)
# The largest integer that a float represents exactly.
_MAX_FLOAT_INT: Final = 2**53 - 1


def to_json(value: Value) -> Any:
    """Return the JSON form of a value as Python objects."""
    kind = type(value)
    if kind is dict:
        return {key: to_json(item) for key, item in value.items()}
    if kind is list:
        return [to_json(item) for item in value]
    if kind is Cid:
        return {_LINK: str(value)}
    if kind is bytes:
        return {_BYTES: b64encode(value).rstrip(b"=").decode()}
    return value


def from_json(obj: Any, *, max_depth: int = MAX_RECORD_DEPTH) -> Value:
    """Return the value of a JSON form.

    Raises InvalidEncodingError for fractions, integers outside 64 bits signed, invalid
    links, bytes, blobs or `$type`; LimitExceededError for more than `max_depth` nested
    containers.
    """
    kind = type(obj)
    if kind is str or obj is None or kind is bool:
        return obj
    if kind is int:
        if not MIN_INT <= obj <= MAX_INT:
            raise InvalidEncodingError("integer outside 64 bits signed")
        return obj
    if kind is float:
        if not obj.is_integer() or abs(obj) > _MAX_FLOAT_INT:
            raise InvalidEncodingError("number is not an integer")
        return int(obj)
    if kind is dict and _LINK in obj:
        return _link(obj)
    if kind is dict and _BYTES in obj:
        return _bytes(obj)
    if max_depth < 1:
        raise LimitExceededError("value is nested too deep")
    if kind is dict:
        if len(obj) > MAX_CONTAINER_ITEMS:
            raise LimitExceededError("too many fields in one object")
        fields = {}
        for key, item in obj.items():
            if type(key) is not str:
                raise InvalidEncodingError("field name is not a string")
            fields[key] = from_json(item, max_depth=max_depth - 1)
        if _TYPE in fields:
            _check_type(fields)
        return fields
    if kind is list:
        if len(obj) > MAX_CONTAINER_ITEMS:
            raise LimitExceededError("too many items in one array")
        return [from_json(item, max_depth=max_depth - 1) for item in obj]
    raise InvalidEncodingError(f"{kind.__name__} has no JSON form")


def record_from_json(
    obj: Any, *, max_depth: int = MAX_RECORD_DEPTH
) -> dict[str, Value]:
    """Return the value of the JSON form of an object; raises as `from_json`."""
    value = from_json(obj, max_depth=max_depth)
    if type(value) is not dict:
        raise InvalidEncodingError("record is not an object")
    return value


def loads(
    data: bytes | str,
    *,
    max_bytes: int = MAX_JSON_BYTES,
    max_depth: int = MAX_JSON_DEPTH,
    max_items: int = MAX_JSON_ITEMS,
    whole_as_int: bool = False,
) -> Any:
    """Parse one JSON text strictly, accepting only what every reader understands alike.

    `whole_as_int` reads 123.0 as the int 123, as the data model does.

    Raises InvalidEncodingError for invalid UTF-8 or JSON, repeated keys, NaN,
    infinities and lone surrogates; LimitExceededError for more than `max_bytes`,
    `max_items` values (counted before parsing) or `max_depth` nested containers.
    """
    if len(data) > max_bytes:
        raise LimitExceededError("JSON text is too large")
    try:
        if isinstance(data, str):
            data = data.encode()
            if len(data) > max_bytes:
                raise LimitExceededError("JSON text is too large")
        if _count_items(data, max_items) > max_items:
            raise LimitExceededError("JSON text has too many values")
        # orjson is strict except for repeated keys, and stops at 1,024 nested
        # containers, which the json module can handle.
        orjson.loads(data)
        value = json.loads(
            data,
            object_pairs_hook=_unique,
            parse_float=_whole_as_int if whole_as_int else float,
        )
    except RecursionError as error:
        raise LimitExceededError("JSON is nested too deep") from error
    except ValueError as error:
        raise InvalidEncodingError(f"not JSON: {error}") from error
    if nests_deeper((value,), max_depth):
        raise LimitExceededError("JSON is nested too deep")
    return value


def _count_items(data: bytes, most: int) -> int:
    """Return an upper bound of the values in a JSON text, exact above `most`."""
    items = _count_marks(data)
    # Strings may hold commas; strip them only when the first count is too high.
    return items if items <= most else _count_marks(_STRING.sub(b"", data))


def _count_marks(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{") + 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidEncodingError("JSON object repeats a key")
    return fields


def _whole_as_int(text: str) -> int | float:
    number = float(text)
    if number.is_integer() and abs(number) <= _MAX_FLOAT_INT:
        return int(number)
    return number


def nests_deeper(items: Iterable[Any], depth_left: int) -> bool:
    """Return True if containers among `items` nest deeper than `depth_left` levels."""
    for item in items:
        kind = type(item)
        if kind is dict:
            if not depth_left or nests_deeper(item.values(), depth_left - 1):
                return True
        elif kind is list and (not depth_left or nests_deeper(item, depth_left - 1)):
            return True
    return False


def _link(obj: dict[Any, Any]) -> Cid:
    text = obj[_LINK]
    if len(obj) != 1 or type(text) is not str:
        raise InvalidEncodingError("$link is not the only field, or not text")
    return Cid(cid_from_text(text))


def _bytes(obj: dict[Any, Any]) -> bytes:
    text = obj[_BYTES]
    if (
        len(obj) != 1
        or type(text) is not str
        or len(text.rstrip("=")) % 4 == 1
        or _BASE64.fullmatch(text) is None
    ):
        raise InvalidEncodingError("$bytes is not the only field, or not base64")
    text = text.rstrip("=")
    return b64decode(text + "=" * (-len(text) % 4))


def _check_type(fields: dict[str, Value]) -> None:
    name = fields[_TYPE]
    if type(name) is not str or not name:
        raise InvalidEncodingError("$type is not a name")
    if name == _BLOB and (
        not fields.keys() >= _BLOB_FIELDS
        or type(fields["ref"]) is not Cid
        or type(fields["mimeType"]) is not str
        or type(fields["size"]) is not int
    ):
        raise InvalidEncodingError("blob lacks a field")
