"""Compilation of schemas to closures: a check is a function that returns or raises.

Everything that depends only on the schema is decided at compile time. Checks nest as
values do, and values have bounded depth.
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
from protocol.syntax import is_space_uri

Check = Callable[[Value], None]

# Returns the definition of a full name, or None.
FindSchema = Callable[[str], Schema | None]

_MAX_UTF8_BYTES: Final = 4
_TYPE: Final = "$type"
_BLOB: Final = "blob"


class Compiler:
    """Compiler of the definitions of one catalog, each compiled once.

    The lenient variant is for published records: it accepts legacy blobs and ignores
    the size and media type of blobs.
    """

    def __init__(self, find_schema: FindSchema, *, lenient: bool) -> None:
        self.find_schema = find_schema
        self._lenient = lenient
        self._checks: dict[str, Check] = {}
        self._started: set[str] = set()
        self._waiting: deque[str] = deque()
        self._depth = 0

    def definition(self, name: str) -> Check:
        """Return the check of a definition by its full name ("nsid" or "nsid#name").

        Raises InvalidLexiconError if it, or one that it refers to, does not exist.
        """
        check = self._checks.get(name)
        if check is not None:
            return check
        try:
            check = self._compile(name)
            while self._waiting:
                self._compile(self._waiting.popleft())
        except InvalidLexiconError:
            # Discard incomplete checks.
            for started in self._started:
                self._checks.pop(started, None)
            raise
        finally:
            self._started.clear()
            self._waiting.clear()
            self._depth = 0
        return check

    def schema(self, schema: Schema, nsid: str) -> Check:
        """Return the check of a schema inside the document `nsid`."""
        for ref in _refs(schema, nsid):
            self.definition(ref)
        return self._schema(schema, nsid)

    def _compile(self, name: str) -> Check:
        check = self._checks.get(name)
        if check is not None:
            return check
        schema = self.find_schema(name)
        if schema is None:
            raise InvalidLexiconError(f"{name} is unknown")
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
            return _check_lenient_blob if self._lenient else _blob(schema)
        scalar = _SCALARS.get(kind)
        if scalar is None:
            raise InvalidLexiconError(f"{kind} is not a checkable type")
        return scalar(schema)

    def _ref(self, name: str) -> Check:
        """Return the check of another definition.

        A recursive definition, or one after too many references, is resolved when
        called.
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
                raise InvalidRecordError("", "is not an object")
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
                raise InvalidRecordError("", "is not an object")
            name = value.get(_TYPE)
            if type(name) is not str or not name:
                raise InvalidRecordError(_TYPE, "is missing")
            check = find(name)
            if check is not None:
                check(value)
            elif closed:
                raise InvalidRecordError(_TYPE, "is not an allowed type")

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
            raise InvalidRecordError("", "is not an array")
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
            raise InvalidRecordError("", "is not an integer")
        if least is not None and value < least:
            raise InvalidRecordError("", f"is below {least}")
        if most is not None and value > most:
            raise InvalidRecordError("", f"is above {most}")
        if allowed is not None and value not in allowed:
            raise InvalidRecordError("", "is not an allowed value")

    return check_integer


def _allowed(schema: Schema) -> frozenset[Any] | None:
    allowed = frozenset(schema["enum"]) if "enum" in schema else None
    if "const" in schema:
        const = frozenset({schema["const"]})
        allowed = const if allowed is None else allowed & const
    return allowed


def _string(schema: Schema) -> Check:
    """Return the check of a string.

    Lengths are bytes of UTF-8. Bytes and graphemes are only counted if the number of
    code points does not decide.
    """
    least = schema.get("minLength", 0)
    most = schema.get("maxLength")
    least_graphemes = schema.get("minGraphemes", 0)
    most_graphemes = schema.get("maxGraphemes")
    allowed = _allowed(schema)
    name = schema.get("format")
    # Unknown formats are not checked.
    known = FORMATS.get(name) if name is not None else None
    is_format = None if known is None else known.check
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
            raise InvalidRecordError("", "is not a string")
        if bounded:
            check_lengths(value)
        if allowed is not None and value not in allowed:
            raise InvalidRecordError("", "is not an allowed value")
        if is_format is not None and not is_format(value):
            if name == "at-uri" and is_space_uri(value):
                raise InvalidRecordError("", "names permissioned data, in a space")
            raise InvalidRecordError("", f"is not a valid {name}")

    return check_string


def _bytes(schema: Schema) -> Check:
    least = schema.get("minLength", 0)
    most = schema.get("maxLength")

    def check_bytes(value: Value) -> None:
        if type(value) is not bytes:
            raise InvalidRecordError("", "is not a byte string")
        if len(value) < least:
            raise InvalidRecordError("", f"has fewer than {least} bytes")
        if most is not None and len(value) > most:
            raise InvalidRecordError("", f"has more than {most} bytes")

    return check_bytes


def _check_link(value: Value) -> None:
    if type(value) is not Cid:
        raise InvalidRecordError("", "is not a link")


def _check_unknown(value: Value) -> None:
    if type(value) is not dict or value.get(_TYPE) == _BLOB:
        raise InvalidRecordError("", "is not an object")


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
            raise InvalidRecordError("mimeType", "is not an allowed media type")

    return check_blob


def _check_lenient_blob(value: Value) -> None:
    if type(value) is dict and _TYPE not in value:
        # A legacy blob.
        for key in ("cid", "mimeType"):
            if type(value.get(key)) is not str or not value[key]:
                raise InvalidRecordError(key, "is missing")
    else:
        _check_blob_fields(value)


def _check_blob_fields(value: Value) -> None:
    if type(value) is not dict or value.get(_TYPE) != _BLOB:
        raise InvalidRecordError("", "is not a blob")
    if type(value.get("ref")) is not Cid:
        raise InvalidRecordError("ref", "is not a link")
    if type(value.get("mimeType")) is not str or not value["mimeType"]:
        raise InvalidRecordError("mimeType", "is not a media type")
    if type(value.get("size")) is not int:
        raise InvalidRecordError("size", "is not an integer")


_SCALARS: Final[Mapping[str, Callable[[Schema], Check]]] = {
    "boolean": _boolean,
    "bytes": _bytes,
    "cid-link": lambda schema: _check_link,
    "integer": _integer,
    "string": _string,
    "unknown": lambda schema: _check_unknown,
}
