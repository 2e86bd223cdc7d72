"""XRPC methods as their lexicons describe them (specs/lexicon, specs/xrpc)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from protocol.data import json_form
from protocol.errors import (
    InvalidEncodingError,
    InvalidRecordError,
    LimitExceededError,
)
from protocol.lexicon.compiler import Check, Compiler
from protocol.lexicon.documents import Schema
from protocol.lexicon.sizes import largest_json
from protocol.limits import MAX_INT, MAX_PARAMETER_CHARS, MIN_INT
from protocol.syntax.nsid import Nsid

Parameter = str | int | bool | list[str] | list[int] | list[bool]

JSON: Final = "application/json"
# Views hold records, and threads hold views: deeper than any record, yet such that
# checking one stays far from the interpreter's recursion limit.
MAX_BODY_DEPTH: Final = 160

EMPTY_IS_ABSENT: Final = frozenset({"cursor", "since", "until"})
"""Parameters that clients send empty for "from the beginning" and "without a limit"."""

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class MethodError:
    """An error that callers of a method may want to tell apart."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Body:
    """An input, an output or a message; `schema` as in the document, for JSON.

    `largest` is how many bytes of JSON an input may need, None without a bound.
    """

    encoding: str
    description: str
    schema: Schema | None
    check: Check | None
    largest: int | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A query, procedure or subscription. `params` is the "params" schema, if any."""

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
        """The typed parameters of a query string, with the defaults filled in.

        `pairs` are names and values, already unescaped; an array is one name several
        times. Unknown names are left out, and an empty cursor, since or until that is
        not required counts as absent. Raises InvalidRecordError, whose `path` is the
        parameter's name, for one that is missing, doubled, or does not fit.
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
        """Raise InvalidRecordError unless `obj`, in JSON form, is a body for this.

        `obj` is None for no body. Bodies that are not JSON are not looked at.
        """
        _check_body(self.input, obj, "input")

    def check_output(self, obj: Any) -> None:
        """Raise InvalidRecordError unless `obj`, in JSON form, is an answer of this."""
        _check_body(self.output, obj, "output")


def compile_method(nsid: Nsid, schema: Schema, compiler: Compiler) -> Method:
    """The method that a main definition describes; raises InvalidLexiconError."""
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
        raise InvalidRecordError("", "is given more than once")
    if kind == "integer":
        return _integer(texts[0])
    if kind == "boolean":
        return _boolean(texts[0])
    return texts[0]


def _check_text(text: str) -> None:
    """Refuse what no parameter means and no database takes."""
    if len(text) > MAX_PARAMETER_CHARS:
        raise InvalidRecordError("", f"is longer than {MAX_PARAMETER_CHARS} characters")
    if "\0" in text:
        raise InvalidRecordError("", "has a NUL character")


def _integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise InvalidRecordError("", "is no integer")
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
            raise InvalidRecordError("", f"there is no {part} here")
    elif body.check is not None:
        if obj is None:
            raise InvalidRecordError("", f"the {part} is missing")
        try:
            value = json_form.from_json(obj, max_depth=MAX_BODY_DEPTH)
        except (InvalidEncodingError, LimitExceededError) as error:
            raise InvalidRecordError("", str(error)) from error
        body.check(value)
