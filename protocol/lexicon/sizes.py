"""The largest JSON that a schema calls for, in bytes: the bound of a request body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.lexicon.documents import Schema, resolve_ref
from protocol.limits import (
    MAX_AT_URI_CHARS,
    MAX_CID_TEXT_CHARS,
    MAX_DATETIME_CHARS,
    MAX_DID_CHARS,
    MAX_HANDLE_CHARS,
    MAX_LANGUAGE_CHARS,
    MAX_LEXICON_DEPTH,
    MAX_NSID_CHARS,
    MAX_RECORD_KEY_CHARS,
    MAX_URI_CHARS,
)

_FORMATS: Final = {
    "at-identifier": MAX_DID_CHARS,
    "at-uri": MAX_AT_URI_CHARS,
    "cid": MAX_CID_TEXT_CHARS,
    "datetime": MAX_DATETIME_CHARS,
    "did": MAX_DID_CHARS,
    "handle": MAX_HANDLE_CHARS,
    "language": MAX_LANGUAGE_CHARS,
    "nsid": MAX_NSID_CHARS,
    "record-key": MAX_RECORD_KEY_CHARS,
    "tid": 13,
    "uri": MAX_URI_CHARS,
}
# A password or token whose lexicon names no length.
_UNBOUNDED_STRING: Final = 2_048
# Two bytes of UTF-8 may be written as an escape of six.
_ESCAPED: Final = 3
_PUNCTUATION: Final = 8
_SCALARS: Final = {"boolean": 5, "integer": 20, "cid-link": 300, "token": 0}
_BLOB: Final = 1_024


def largest_json(
    schema: Schema, nsid: str, find_schema: Callable[[str], Schema | None]
) -> int | None:
    """Return the bytes that a value of `schema`, in document `nsid`, may need.

    None means that the lexicon sets no bound: a value of any kind, an open union, an
    array without a length, or a definition that holds itself.
    """
    return _Sizes(find_schema).size(schema, nsid, MAX_LEXICON_DEPTH)


class _Sizes:
    def __init__(self, find_schema: Callable[[str], Schema | None]) -> None:
        self._find_schema = find_schema

    def size(self, schema: Schema, nsid: str, depth: int) -> int | None:
        if depth == 0:
            return None
        kind = schema["type"]
        if kind in _SCALARS:
            return _SCALARS[kind]
        if kind == "string":
            return _string(schema)
        if kind == "bytes":
            length = schema.get("maxLength")
            return None if length is None else 2 * length + 20
        if kind == "blob":
            return _BLOB
        if kind == "object":
            return self._object(schema, nsid, depth)
        if kind == "array":
            length = schema.get("maxLength")
            item = self.size(schema["items"], nsid, depth - 1)
            return None if length is None or item is None else length * (item + 1) + 2
        if kind == "ref":
            return self._ref(schema["ref"], nsid, depth)
        if kind == "union" and schema.get("closed"):
            sizes = [self._ref(ref, nsid, depth) for ref in schema["refs"]]
            known = [size for size in sizes if size is not None]
            return max(known, default=0) if len(known) == len(sizes) else None
        return None

    def _object(self, schema: Schema, nsid: str, depth: int) -> int | None:
        total = 2
        for name, field in schema.get("properties", {}).items():
            size = self.size(field, nsid, depth - 1)
            if size is None:
                return None
            total += size + len(name) + _PUNCTUATION
        return total

    def _ref(self, ref: str, nsid: str, depth: int) -> int | None:
        name = resolve_ref(ref, nsid)
        schema = self._find_schema(name)
        if schema is None:
            return None
        if schema["type"] == "record":
            schema = schema["record"]
        size = self.size(schema, name.partition("#")[0], depth - 1)
        return None if size is None else size + len(name) + _PUNCTUATION


def _string(schema: Schema) -> int:
    bounds = [
        length
        for length in (schema.get("maxLength"), _FORMATS.get(schema.get("format", "")))
        if length is not None
    ]
    if bounds:
        return min(bounds) * (1 if "format" in schema else _ESCAPED) + 2
    known = [*schema.get("knownValues", ()), *schema.get("enum", ())]
    return max([_UNBOUNDED_STRING, *map(len, known)]) + 2
