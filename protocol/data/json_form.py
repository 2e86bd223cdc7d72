"""The JSON form of values: {"$link": …} and {"$bytes": …} (specs/data-model).

Also a strict reader for JSON of strangers, of whatever schema.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
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
# Matches from any quote, an unclosed one too, so that it never goes over a text twice.
_STRING = re.compile(rb'"[^"\\]*(?:\\.?[^"\\]*)*"?', re.DOTALL)
# Up to here every integer is a float of its own, so 123.0 can be told to mean 123.
_MAX_FLOAT_INT: Final = 2**53 - 1


def to_json(value: Value) -> Any:
    """The JSON form of a value, as objects that a JSON writer takes.

    A CID of version 0, which no new record may hold, is written as "Qm…".
    """
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
    """The value of a JSON form, for CBOR.

    Raises InvalidEncodingError for floats with a fraction, integers outside 64 bits
    signed, links and bytes that are none or have company, a `$type` that is no name,
    and blobs that lack a field; LimitExceededError for more than `max_depth` nested
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
            raise InvalidEncodingError("a number that is no integer")
        return int(obj)
    if kind is dict and _LINK in obj:
        return _link(obj)
    if kind is dict and _BYTES in obj:
        return _bytes(obj)
    if max_depth < 1:
        raise LimitExceededError("value nested too deep")
    if kind is dict:
        if len(obj) > MAX_CONTAINER_ITEMS:
            raise LimitExceededError("too many fields in one object")
        fields = {}
        for key, item in obj.items():
            if type(key) is not str:
                raise InvalidEncodingError("a field whose name is no string")
            fields[key] = from_json(item, max_depth=max_depth - 1)
        if _TYPE in fields:
            _check_type(fields)
        return fields
    if kind is list:
        if len(obj) > MAX_CONTAINER_ITEMS:
            raise LimitExceededError("too many items in one array")
        return [from_json(item, max_depth=max_depth - 1) for item in obj]
    raise InvalidEncodingError(f"no JSON form for a {kind.__name__}")


def record_from_json(
    obj: Any, *, max_depth: int = MAX_RECORD_DEPTH
) -> dict[str, Value]:
    """As `from_json`, for what must be an object."""
    value = from_json(obj, max_depth=max_depth)
    if type(value) is not dict:
        raise InvalidEncodingError("a record that is no object")
    return value


def loads(
    data: bytes | str,
    *,
    max_bytes: int = MAX_JSON_BYTES,
    max_depth: int = MAX_JSON_DEPTH,
    max_items: int = MAX_JSON_ITEMS,
    whole_as_int: bool = False,
) -> Any:
    """Read one JSON text, taking nothing that two readers may understand in two ways.

    With `whole_as_int` 123.0 is the int 123, as the data model has it; without, it
    stays a float, which no reader of integers takes.

    Raises InvalidEncodingError for bytes that are not UTF-8, repeated keys, NaN and
    infinities, lone surrogates and anything else that is not JSON; LimitExceededError
    for more than `max_bytes`, `max_items` values (counted before anything is made of
    them), or `max_depth` nested containers.
    """
    if len(data) > max_bytes:
        raise LimitExceededError("JSON text too large")
    try:
        if isinstance(data, str):
            data = data.encode()
            if len(data) > max_bytes:
                raise LimitExceededError("JSON text too large")
        if _count_items(data, max_items) > max_items:
            raise LimitExceededError("JSON of too many values")
        # orjson is strict about everything but repeated keys, and stops by itself
        # at 1,024 nested containers, which the second reader can bear.
        orjson.loads(data)
        value = json.loads(
            data,
            object_pairs_hook=_unique,
            parse_float=_whole_as_int if whole_as_int else float,
        )
    except RecursionError as error:
        raise LimitExceededError("JSON nested too deep") from error
    except ValueError as error:
        raise InvalidEncodingError(f"not JSON: {error}") from error
    if _nests_deeper(value, max_depth):
        raise LimitExceededError("JSON nested too deep")
    return value


def _count_items(data: bytes, most: int) -> int:
    """Return a bound of the values in a JSON text; exact enough above `most`."""
    items = _count_marks(data)
    # Text holds commas too, which is only looked into where it matters.
    return items if items <= most else _count_marks(_STRING.sub(b"", data))


def _count_marks(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{") + 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidEncodingError("a JSON object that repeats a key")
    return fields


def _whole_as_int(text: str) -> int | float:
    number = float(text)
    if number.is_integer() and abs(number) <= _MAX_FLOAT_INT:
        return int(number)
    return number


def _nests_deeper(value: Any, max_depth: int) -> bool:
    level = [value]
    for _ in range(max_depth + 1):
        containers = [item for item in level if isinstance(item, (dict, list))]
        if not containers:
            return False
        level = [
            item
            for container in containers
            for item in (
                container.values() if isinstance(container, dict) else container
            )
        ]
    return True


def _link(obj: dict[Any, Any]) -> Cid:
    text = obj[_LINK]
    if len(obj) != 1 or type(text) is not str:
        raise InvalidEncodingError("a link with company, or without text")
    return Cid(cid_from_text(text))


def _bytes(obj: dict[Any, Any]) -> bytes:
    text = obj[_BYTES]
    if (
        len(obj) != 1
        or type(text) is not str
        or len(text.rstrip("=")) % 4 == 1
        or _BASE64.fullmatch(text) is None
    ):
        raise InvalidEncodingError("bytes with company, or without base64")
    text = text.rstrip("=")
    return b64decode(text + "=" * (-len(text) % 4))


def _check_type(fields: dict[str, Value]) -> None:
    name = fields[_TYPE]
    if type(name) is not str or not name:
        raise InvalidEncodingError("a $type that is no name")
    if name == _BLOB and (
        not fields.keys() >= _BLOB_FIELDS
        or type(fields["ref"]) is not Cid
        or type(fields["mimeType"]) is not str
        or type(fields["size"]) is not int
    ):
        raise InvalidEncodingError("a blob that lacks a field")
