"""XRPC methods as described by their lexicons (specs/lexicon, specs/xrpc)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from protocol.data import json_form
from protocol.errors import InvalidEncodingError, InvalidRecordError, LimitExceededError
from protocol.lexicon.compiler import Check, Compiler
from protocol.lexicon.documents import Schema
from protocol.lexicon.sizes import largest_json
from protocol.limits import MAX_INT, MAX_PARAMETER_CHARS, MIN_INT
from protocol.syntax.nsid import Nsid

Parameter = str | int | bool | list[str] | list[int] | list[bool]

JSON: Final = "application/json"
# Threads of views of records are deeper than any record; this stays far below the
# interpreter's recursion limit.
MAX_BODY_DEPTH: Final = 160

# Parameters that clients send empty for "from the start" and "no limit".
EMPTY_IS_ABSENT: Final = frozenset({"cursor", "since", "until"})

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class MethodError:
    """A documented error of a method."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Body:
    """An input, an output or a message; `schema` is as in the document, for JSON.

    `largest` is the most bytes of JSON of an input, None if unbounded.
    """

    encoding: str
    description: str
    schema: Schema | None
    check: Check | None
    largest: int | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A query, procedure or subscription; `params` is the "params" schema, if any."""

    nsid: Nsid
    kind: Literal["query", "procedure", "subscription"]
    description: str
    errors: tuple[MethodError, ...]
    params: Schema | None
    input: Body | None
    output: Body | None
    message: Body | None
    param_checks: Mapping[str, Check]

    def decode_params(self, pairs: Iterable[tuple[str, str]]) -> dict[str, Parameter]:
        """Return the typed parameters of a query string, with defaults.

        `pairs` are unescaped names and values; an array repeats its name. Unknown names
        are ignored. Raises InvalidRecordError, with the parameter's name as `path`, for
        a missing, repeated or invalid one.
        """
        if self.params is None:
            return {}
        fields: Mapping[str, Schema] = self.params.get("properties", {})
        optional = EMPTY_IS_ABSENT.difference(self.params.get("required", ()))
        texts: dict[str, list[str]] = {}
        for name, text in pairs:
            if name in fields and (text or name not in optional):
                texts.setdefault(name, []).append(text)
        values: dict[str, Parameter] = {}
        for name, schema in fields.items():
            if name in texts:
                try:
                    values[name] = _decode(texts[name], schema)
                    self.param_checks[name](values[name])
                except InvalidRecordError as error:
                    raise error.inside(name) from None
            elif "default" in schema:
                values[name] = schema["default"]
        for name in self.params.get("required", ()):
            if name not in values:
                raise InvalidRecordError(name, "is missing")
        return values

    def check_input(self, obj: Any) -> None:
        """Raise InvalidRecordError unless `obj`, in JSON form, is a valid body.

        `obj` is None for no body. Bodies other than JSON are not checked.
        """
        _check_body(self.input, obj, "input")

    def check_output(self, obj: Any) -> None:
        """Raise InvalidRecordError unless `obj`, in JSON form, is a valid output."""
        _check_body(self.output, obj, "output")


def compile_method(nsid: Nsid, schema: Schema, compiler: Compiler) -> Method:
    """Return the method of a main definition; raise InvalidLexiconError."""
    params: Schema | None = schema.get("parameters")
    fields = {} if params is None else params.get("properties", {})
    return Method(
        nsid=nsid,
        kind=schema["type"],
        description=schema.get("description", ""),
        errors=tuple(
            MethodError(error["name"], error.get("description", ""))
            for error in schema.get("errors", ())
        ),
        params=params,
        input=_input(schema.get("input"), nsid, compiler),
        output=_body(schema.get("output"), nsid, compiler),
        message=_body(schema.get("message"), nsid, compiler),
        param_checks={
            name: compiler.schema(field, nsid) for name, field in fields.items()
        },
    )


def _body(body: Schema | None, nsid: Nsid, compiler: Compiler) -> Body | None:
    if body is None:
        return None
    schema = body.get("schema")
    return Body(
        encoding=body.get("encoding", ""),
        description=body.get("description", ""),
        schema=schema,
        check=None if schema is None else compiler.schema(schema, nsid),
    )


def _input(body: Schema | None, nsid: Nsid, compiler: Compiler) -> Body | None:
    found = _body(body, nsid, compiler)
    if found is None or found.schema is None:
        return found
    largest = largest_json(found.schema, nsid, compiler.find_schema)
    return replace(found, largest=largest)


def _decode(texts: list[str], schema: Schema) -> Parameter:
    for text in texts:
        _check_text(text)
    kind = schema["type"]
    if kind == "array":
        kind = schema["items"]["type"]
        if kind == "integer":
            return [_integer(text) for text in texts]
        if kind == "boolean":
            return [_boolean(text) for text in texts]
        return texts
    if len(texts) > 1:
        raise InvalidRecordError("", "is repeated")
    if kind == "integer":
        return _integer(texts[0])
    if kind == "boolean":
        return _boolean(texts[0])
    return texts[0]


def _check_text(text: str) -> None:
    """Raise InvalidRecordError for text that is too long or that Postgres refuses."""
    if len(text) > MAX_PARAMETER_CHARS:
        raise InvalidRecordError("", f"is longer than {MAX_PARAMETER_CHARS} characters")
    if "\0" in text:
        raise InvalidRecordError("", "has a NUL character")


def _integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise InvalidRecordError("", "is not an integer")
    number = int(text)
    if not MIN_INT <= number <= MAX_INT:
        raise InvalidRecordError("", "is outside 64 bits signed")
    return number


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise InvalidRecordError("", "is neither true nor false")
    return _BOOLEANS[text]


def _check_body(body: Body | None, obj: Any, part: str) -> None:
    if body is None:
        if obj is not None:
            raise InvalidRecordError("", f"{part} must be empty")
    elif body.check is not None:
        if obj is None:
            raise InvalidRecordError("", f"{part} is missing")
        try:
            value = json_form.from_json(obj, max_depth=MAX_BODY_DEPTH)
        except (InvalidEncodingError, LimitExceededError) as error:
            raise InvalidRecordError("", str(error)) from error
        body.check(value)
