"""The largest JSON of a schema, in bytes: the bound of a request body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.lexicon.documents import Schema, resolve_ref
from protocol.lexicon.formats import FORMATS
from protocol.limits import MAX_LEXICON_DEPTH

# For passwords and tokens without a length in their lexicon.
_UNBOUNDED_STRING: Final = 2_048
# Two bytes of UTF-8 may be escaped as six.
_ESCAPED: Final = 3
_PUNCTUATION: Final = 8
_SCALARS: Final = {"boolean": 5, "integer": 20, "cid-link": 300, "token": 0}
_BLOB: Final = 1_024


def largest_json(
    schema: Schema, nsid: str, find_schema: Callable[[str], Schema | None]
) -> int | None:
    """Return the most bytes of a value of `schema`, in document `nsid`, or None.

    None means unbounded: an unknown value, an open union, an array without a length or
    a recursive definition.
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
    known_format = FORMATS.get(schema.get("format", ""))
    bounds = [] if known_format is None else [known_format.max_chars]
    if "maxLength" in schema:
        bounds.append(schema["maxLength"])
    if bounds:
        return min(bounds) * (1 if "format" in schema else _ESCAPED) + 2
    known = [*schema.get("knownValues", ()), *schema.get("enum", ())]
    return max([_UNBOUNDED_STRING, *map(len, known)]) + 2
