"""Lexicon documents: the form of the schema language itself (specs/lexicon).

Documents are untrusted: everything that the compiler relies on is checked and bounded
here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from protocol.data import json_form
from protocol.errors import (
    InvalidEncodingError,
    InvalidLexiconError,
    LimitExceededError,
)
from protocol.limits import MAX_LEXICON_BYTES, MAX_LEXICON_DEPTH, MAX_UNION_WIDTH
from protocol.syntax.nsid import Nsid, is_nsid
from protocol.syntax.record_key import is_record_key

Schema = Mapping[str, Any]

MAIN: Final = "main"
METHOD_KINDS: Final = frozenset({"query", "procedure", "subscription"})
# The contents of these are not checked.
_OPAQUE_KINDS: Final = frozenset({"permission-set", "space"})
_PRIMARY_KINDS: Final = METHOD_KINDS | _OPAQUE_KINDS | {"record"}
# A reference or an unknown cannot be a definition, so references always end.
_VALUE_TYPES: Final = frozenset(
    ("array", "blob", "boolean", "bytes", "cid-link", "integer", "object", "string")
)
_NAMED_TYPES: Final = _VALUE_TYPES | {"token"}
_FIELD_TYPES: Final = _VALUE_TYPES | {"ref", "union", "unknown"}
_PARAMETER_TYPES: Final = frozenset({"boolean", "integer", "string"})

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,127}", re.ASCII)
_BOUNDS: Final[Mapping[str, tuple[str, ...]]] = {
    "array": ("minLength", "maxLength"),
    "blob": ("maxSize",),
    "bytes": ("minLength", "maxLength"),
    "integer": ("minimum", "maximum"),
    "string": ("minLength", "maxLength", "minGraphemes", "maxGraphemes"),
}
_CONSTANTS: Final[Mapping[str, type]] = {"boolean": bool, "integer": int, "string": str}


@dataclass(frozen=True, slots=True)
class Document:
    """A valid document; `definitions` are by name, the first one "main"."""

    nsid: Nsid
    description: str
    definitions: Mapping[str, Schema]


def read_document(raw: bytes) -> Document:
    """Parse an untrusted document; raise InvalidLexiconError."""
    try:
        # The JSON of a schema is about twice as deep as its values.
        obj = json_form.loads(
            raw, max_bytes=MAX_LEXICON_BYTES, max_depth=3 * MAX_LEXICON_DEPTH
        )
    except (InvalidEncodingError, LimitExceededError) as error:
        raise InvalidLexiconError(str(error)) from error
    return check_document(obj)


def check_document(obj: Any) -> Document:
    """Return the document with the JSON value `obj`; raise InvalidLexiconError."""
    if type(obj) is not dict or obj.get("lexicon") != 1:
        raise InvalidLexiconError("not a lexicon document of version 1")
    nsid = obj.get("id")
    if type(nsid) is not str or not is_nsid(nsid):
        raise InvalidLexiconError("the id of the lexicon is not an NSID")
    definitions = obj.get("defs")
    if type(definitions) is not dict or not definitions:
        raise InvalidLexiconError(f"{nsid} defines nothing")
    for name, schema in definitions.items():
        try:
            _check_definition(name, schema)
        except InvalidLexiconError as error:
            raise InvalidLexiconError(f"{nsid}#{name}: {error}") from None
    description = obj.get("description")
    return Document(
        Nsid(nsid), description if type(description) is str else "", definitions
    )


def resolve_ref(ref: str, nsid: str) -> str:
    """Return the full name of `ref` inside the document `nsid`, without "#main"."""
    if ref.startswith("#"):
        ref = nsid + ref
    return ref.removesuffix("#main")


def _check_definition(name: str, schema: Any) -> None:
    if _NAME.fullmatch(name) is None:
        raise InvalidLexiconError("definition has an invalid name")
    kind = _type_of(schema)
    if kind in _PRIMARY_KINDS and name != MAIN:
        raise InvalidLexiconError(f"{kind} must be the main definition")
    if kind == "record":
        _check_record(schema)
    elif kind in METHOD_KINDS:
        _check_method(kind, schema)
    elif kind in _NAMED_TYPES:
        _check_schema(schema, _NAMED_TYPES, MAX_LEXICON_DEPTH)
    elif kind not in _OPAQUE_KINDS:
        raise InvalidLexiconError(f"{kind[:40]} cannot be a definition")


def _check_record(schema: Schema) -> None:
    key = schema.get("key")
    if type(key) is not str or not (
        key in ("any", "nsid", "tid")
        or (key.startswith("literal:") and is_record_key(key[8:]))
    ):
        raise InvalidLexiconError("record has no valid key type")
    _check_schema(schema.get("record"), frozenset({"object"}), MAX_LEXICON_DEPTH)


def _check_method(kind: str, schema: Schema) -> None:
    parameters = schema.get("parameters")
    if parameters is not None:
        _check_parameters(parameters)
    for part in ("input", "output", "message"):
        body = schema.get(part)
        if body is None:
            continue
        if type(body) is not dict:
            raise InvalidLexiconError(f"{part} is not an object")
        if part != "message" and type(body.get("encoding")) is not str:
            raise InvalidLexiconError(f"{part} has no encoding")
        if body.get("schema") is not None:
            allowed = frozenset({"object", "ref", "union"})
            _check_schema(body["schema"], allowed, MAX_LEXICON_DEPTH)
    if kind == "query" and schema.get("input") is not None:
        raise InvalidLexiconError("query cannot have an input")
    errors = schema.get("errors", [])
    if type(errors) is not list or not all(
        type(error) is dict and type(error.get("name")) is str for error in errors
    ):
        raise InvalidLexiconError("error has no name")


def _check_parameters(schema: Any) -> None:
    if _type_of(schema) != "params":
        raise InvalidLexiconError("parameters are not of type params")
    for field in _check_fields(schema).values():
        if _type_of(field) == "array":
            _check_bounds(field, "array")
            field = field.get("items")
        _check_schema(field, _PARAMETER_TYPES, 1)


def _check_schema(schema: Any, allowed: frozenset[str], depth_left: int) -> None:
    kind = _type_of(schema)
    if kind not in allowed:
        raise InvalidLexiconError(f"{kind[:40]} is not allowed here")
    if depth_left < 1:
        raise InvalidLexiconError("schema is nested too deep")
    if kind == "object":
        for field in _check_fields(schema).values():
            _check_schema(field, _FIELD_TYPES, depth_left - 1)
    elif kind == "array":
        _check_bounds(schema, kind)
        _check_schema(schema.get("items"), _FIELD_TYPES, depth_left - 1)
    elif kind == "ref":
        _check_ref(schema.get("ref"))
    elif kind == "union":
        _check_union(schema)
    else:
        _check_scalar(schema, kind)


def _check_fields(schema: Schema) -> dict[str, Any]:
    fields = schema.get("properties", {})
    if type(fields) is not dict:
        raise InvalidLexiconError("properties is not an object")
    for part in ("required", "nullable"):
        if not _is_list_of(schema.get(part, []), str):
            raise InvalidLexiconError(f"{part} is not a list of names")
    return fields


def _check_union(schema: Schema) -> None:
    refs = schema.get("refs")
    if type(refs) is not list:
        raise InvalidLexiconError("union has no references")
    if len(refs) > MAX_UNION_WIDTH:
        raise InvalidLexiconError("union has too many references")
    for ref in refs:
        _check_ref(ref)
    if type(schema.get("closed", False)) is not bool:
        raise InvalidLexiconError("closed is not a boolean")


def _check_ref(ref: Any) -> None:
    if type(ref) is str:
        nsid, mark, name = ref.partition("#")
        if (is_nsid(nsid) if nsid else bool(mark)) and (
            not mark or _NAME.fullmatch(name) is not None
        ):
            return
    raise InvalidLexiconError("reference is invalid")


def _check_scalar(schema: Schema, kind: str) -> None:
    _check_bounds(schema, kind)
    constant = _CONSTANTS.get(kind)
    if constant is not None:
        for part in ("const", "default"):
            if part in schema and type(schema[part]) is not constant:
                raise InvalidLexiconError(f"{part} is not a {kind}")
        for part in ("enum", "knownValues"):
            if part in schema and not _is_list_of(schema[part], constant):
                raise InvalidLexiconError(f"{part} is not a list of {kind} values")
    if type(schema.get("format", "")) is not str:
        raise InvalidLexiconError("format is not a string")
    if kind == "blob" and not _is_list_of(schema.get("accept", []), str):
        raise InvalidLexiconError("accept is not a list of media types")


def _check_bounds(schema: Schema, kind: str) -> None:
    for part in _BOUNDS.get(kind, ()):
        bound = schema.get(part, 0)
        if type(bound) is not int or (bound < 0 and kind != "integer"):
            raise InvalidLexiconError(f"{part} is not a valid bound")


def _is_list_of(value: Any, kind: type) -> bool:
    return type(value) is list and all(type(item) is kind for item in value)


def _type_of(schema: Any) -> str:
    kind = schema.get("type") if type(schema) is dict else None
    if type(kind) is not str:
        raise InvalidLexiconError("definition has no type")
    return kind
