"""Compiles schemas to closures: a check is a function that returns or raises.

All decisions that depend on the schema alone are taken once, here, so that checking a
value costs a few calls. Checks nest as values do, and values have bounded depth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from protocol.data.cbor import Value
from protocol.data.cid import Cid
from protocol.data.graphemes import count_graphemes
from protocol.errors import InvalidLexiconError, InvalidRecordError
from protocol.lexicon.documents import Schema, resolve_ref
from protocol.lexicon.formats import FORMATS
from protocol.limits import MAX_LEXICON_DEPTH

Check = Callable[[Value], None]

# Finds the definition of a full name, or None.
FindSchema = Callable[[str], Schema | None]

_MAX_UTF8_BYTES: Final = 4
_TYPE: Final = "$type"
_BLOB: Final = "blob"


class Compiler:
    """Compiles the definitions of one catalog, each once, and what they refer to.

    A lenient compiler is for records that others have published already: it takes
    blobs of the form before 2023, and leaves the size and media type of a blob to
    those who serve it.
    """

    def __init__(self, find_schema: FindSchema, *, lenient: bool) -> None:
        self.find_schema = find_schema
        self._lenient = lenient
        self._checks: dict[str, Check] = {}
        self._started: set[str] = set()
        self._waiting: deque[str] = deque()
        self._depth = 0

    def definition(self, name: str) -> Check:
        """The check for a definition by its full name ("nsid" or "nsid#name").

        Raises InvalidLexiconError where it, or one it refers to, does not exist.
        """
        check = self._checks.get(name)
        if check is not None:
            return check
        try:
            check = self._compile(name)
            while self._waiting:
                self._compile(self._waiting.popleft())
        except InvalidLexiconError:
            # Nothing half done may be taken for whole the next time.
            for started in self._started:
                self._checks.pop(started, None)
            raise
        finally:
            self._started.clear()
            self._waiting.clear()
            self._depth = 0
        return check

    def schema(self, schema: Schema, nsid: str) -> Check:
        """The check for a schema that stands inside the document `nsid`."""
        for ref in _refs(schema, nsid):
            self.definition(ref)
        return self._schema(schema, nsid)

    def _compile(self, name: str) -> Check:
        check = self._checks.get(name)
        if check is not None:
            return check
        schema = self.find_schema(name)
        if schema is None:
            raise InvalidLexiconError(f"{name} is not known")
        self._started.add(name)
        self._depth += 1
        if schema["type"] == "token":
            check = _token(name)
        else:
            if schema["type"] == "record":
                schema = schema["record"]
            check = self._schema(schema, name.partition("#")[0])
        self._depth -= 1
        self._checks[name] = check
        return check

    def _schema(self, schema: Schema, nsid: str) -> Check:
        kind = schema["type"]
        if kind == "object":
            return self._object(schema, nsid)
        if kind == "array":
            return _array(schema, self._schema(schema["items"], nsid))
        if kind == "ref":
            return self._ref(resolve_ref(schema["ref"], nsid))
        if kind == "union":
            return self._union(schema, nsid)
        if kind == "blob":
            return _lenient_blob if self._lenient else _blob(schema)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise InvalidLexiconError(f"nothing can be checked against a {kind}")
        return scalar(schema)

    def _ref(self, name: str) -> Check:
        """The check of another definition, itself where it can be had by now.

        One that refers back to itself, or that lies too many references away, is
        looked up when a value comes.
        """
        check = self._checks.get(name)
        if check is not None:
            return check
        if name not in self._started and self._depth < MAX_LEXICON_DEPTH:
            return self._compile(name)
        self._waiting.append(name)
        checks = self._checks

        def check_later(value: Value) -> None:
            checks[name](value)

        return check_later

    def _object(self, schema: Schema, nsid: str) -> Check:
        nullable = frozenset(schema.get("nullable", ()))
        checks: dict[str, Check] = {}
        for key, field in schema.get("properties", {}).items():
            check = self._schema(field, nsid)
            checks[key] = _nullable(check) if key in nullable else check
        required = tuple(dict.fromkeys(schema.get("required", ())))
        find = checks.get

        def check_object(value: Value) -> None:
            if type(value) is not dict:
                raise InvalidRecordError("", "is no object")
            for key in required:
                if key not in value:
                    raise InvalidRecordError(key, "is missing")
            key = ""
            try:
                for key, item in value.items():
                    check = find(key)
                    if check is not None:
                        check(item)
            except InvalidRecordError as error:
                raise error.inside(key) from None

        return check_object

    def _union(self, schema: Schema, nsid: str) -> Check:
        checks: dict[str, Check] = {}
        for ref in schema["refs"]:
            name = resolve_ref(ref, nsid)
            checks[name] = self._ref(name)
            if "#" not in name:
                checks[f"{name}#main"] = checks[name]
        closed = schema.get("closed", False)
        find = checks.get

        def check_union(value: Value) -> None:
            if type(value) is not dict:
                raise InvalidRecordError("", "is no object")
            name = value.get(_TYPE)
            if type(name) is not str or not name:
                raise InvalidRecordError(_TYPE, "is missing")
            check = find(name)
            if check is not None:
                check(value)
            elif closed:
                raise InvalidRecordError(_TYPE, "is none of the types allowed here")

        return check_union


def _refs(schema: Schema, nsid: str) -> list[str]:
    kind = schema["type"]
    if kind == "object":
        fields = schema.get("properties", {}).values()
        return [ref for field in fields for ref in _refs(field, nsid)]
    if kind == "array":
        return _refs(schema["items"], nsid)
    if kind == "ref":
        return [resolve_ref(schema["ref"], nsid)]
    if kind == "union":
        return [resolve_ref(ref, nsid) for ref in schema["refs"]]
    return []


def _nullable(check: Check) -> Check:
    def check_nullable(value: Value) -> None:
        if value is not None:
            check(value)

    return check_nullable


def _array(schema: Schema, check_item: Check) -> Check:
    least = schema.get("minLength", 0)
    most = schema.get("maxLength")

    def check_array(value: Value) -> None:
        if type(value) is not list:
            raise InvalidRecordError("", "is no array")
        if len(value) < least:
            raise InvalidRecordError("", f"has fewer than {least} items")
        if most is not None and len(value) > most:
            raise InvalidRecordError("", f"has more than {most} items")
        index = 0
        try:
            for item in value:
                check_item(item)
                index += 1
        except InvalidRecordError as error:
            raise error.inside(f"[{index}]") from None

    return check_array


def _token(name: str) -> Check:
    def check_token(value: Value) -> None:
        if value != name:
            raise InvalidRecordError("", f"is not {name}")

    return check_token


def _boolean(schema: Schema) -> Check:
    const = schema.get("const")

    def check_boolean(value: Value) -> None:
        if type(value) is not bool:
            raise InvalidRecordError("", "is neither true nor false")
        if const is not None and value is not const:
            raise InvalidRecordError("", f"is not {str(const).lower()}")

    return check_boolean


def _integer(schema: Schema) -> Check:
    least = schema.get("minimum")
    most = schema.get("maximum")
    allowed = _allowed(schema)

    def check_integer(value: Value) -> None:
        if type(value) is not int:
            raise InvalidRecordError("", "is no integer")
        if least is not None and value < least:
            raise InvalidRecordError("", f"is below {least}")
        if most is not None and value > most:
            raise InvalidRecordError("", f"is above {most}")
        if allowed is not None and value not in allowed:
            raise InvalidRecordError("", "is none of the values allowed here")

    return check_integer


def _allowed(schema: Schema) -> frozenset[Any] | None:
    allowed = frozenset(schema["enum"]) if "enum" in schema else None
    if "const" in schema:
        const = frozenset({schema["const"]})
        allowed = const if allowed is None else allowed & const
    return allowed


def _string(schema: Schema) -> Check:
    """Lengths are bytes of UTF-8; a string is only encoded, and its graphemes only
    counted, where its number of code points does not settle the matter."""
    least = schema.get("minLength", 0)
    most = schema.get("maxLength")
    least_graphemes = schema.get("minGraphemes", 0)
    most_graphemes = schema.get("maxGraphemes")
    allowed = _allowed(schema)
    name = schema.get("format")
    # A format that came after us constrains nothing we know of.
    is_format = FORMATS.get(name) if name is not None else None
    bounded = bool(
        least or least_graphemes or most is not None or most_graphemes is not None
    )

    def check_lengths(value: str) -> None:
        points = len(value)
        if points < least and len(value.encode()) < least:
            raise InvalidRecordError("", f"is shorter than {least} bytes")
        if (
            most is not None
            and points * _MAX_UTF8_BYTES > most
            and (points > most or len(value.encode()) > most)
        ):
            raise InvalidRecordError("", f"is longer than {most} bytes")
        if least_graphemes and (
            points < least_graphemes
            or count_graphemes(value, least_graphemes) < least_graphemes
        ):
            raise InvalidRecordError("", f"is shorter than {least_graphemes} graphemes")
        if (
            most_graphemes is not None
            and points > most_graphemes
            and count_graphemes(value, most_graphemes) > most_graphemes
        ):
            raise InvalidRecordError("", f"is longer than {most_graphemes} graphemes")

    def check_string(value: Value) -> None:
        if type(value) is not str:
            raise InvalidRecordError("", "is no string")
        if bounded:
            check_lengths(value)
        if allowed is not None and value not in allowed:
            raise InvalidRecordError("", "is none of the values allowed here")
        if is_format is not None and not is_format(value):
            raise InvalidRecordError("", f"is no {name}")

    return check_string


def _bytes(schema: Schema) -> Check:
    least = schema.get("minLength", 0)
    most = schema.get("maxLength")

    def check_bytes(value: Value) -> None:
        if type(value) is not bytes:
            raise InvalidRecordError("", "is no byte string")
        if len(value) < least:
            raise InvalidRecordError("", f"has fewer than {least} bytes")
        if most is not None and len(value) > most:
            raise InvalidRecordError("", f"has more than {most} bytes")

    return check_bytes


def _link(schema: Schema) -> Check:
    def check_link(value: Value) -> None:
        if type(value) is not Cid:
            raise InvalidRecordError("", "is no link")

    return check_link


def _unknown(schema: Schema) -> Check:
    def check_unknown(value: Value) -> None:
        if type(value) is not dict or value.get(_TYPE) == _BLOB:
            raise InvalidRecordError("", "is no object")

    return check_unknown


def _blob(schema: Schema) -> Check:
    largest = schema.get("maxSize")
    accepted = frozenset(schema.get("accept", ()))
    families = tuple(name[:-1] for name in accepted if name.endswith("/*"))
    any_type = not accepted or "*/*" in accepted

    def check_blob(value: Value) -> None:
        _check_blob_fields(value)
        if value["size"] < 1:
            raise InvalidRecordError("size", "is below 1")
        if largest is not None and value["size"] > largest:
            raise InvalidRecordError("size", f"is above {largest}")
        media_type = value["mimeType"]
        if not (any_type or media_type in accepted or media_type.startswith(families)):
            raise InvalidRecordError("mimeType", "is none of those allowed here")

    return check_blob


def _lenient_blob(value: Value) -> None:
    if type(value) is dict and _TYPE not in value:
        # As blobs were before they had a type.
        for key in ("cid", "mimeType"):
            if type(value.get(key)) is not str or not value[key]:
                raise InvalidRecordError(key, "is missing")
    else:
        _check_blob_fields(value)


def _check_blob_fields(value: Value) -> None:
    if type(value) is not dict or value.get(_TYPE) != _BLOB:
        raise InvalidRecordError("", "is no blob")
    if type(value.get("ref")) is not Cid:
        raise InvalidRecordError("ref", "is no link")
    if type(value.get("mimeType")) is not str or not value["mimeType"]:
        raise InvalidRecordError("mimeType", "is no media type")
    if type(value.get("size")) is not int:
        raise InvalidRecordError("size", "is no integer")


_SCALARS: Final[Mapping[str, Callable[[Schema], Check]]] = {
    "boolean": _boolean,
    "bytes": _bytes,
    "cid-link": _link,
    "integer": _integer,
    "string": _string,
    "unknown": _unknown,
}
