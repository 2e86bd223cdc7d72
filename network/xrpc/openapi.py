"""OpenAPI 3.1 of an XRPC server, made from the lexicons of its methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from protocol.lexicon import Catalog, Schema
from protocol.lexicon.documents import resolve_ref

Json: TypeAlias = dict[str, Any]

_JSON: Final = "application/json"
_ERROR_SCHEMA: Final[Json] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
}
# Keywords that JSON Schema has under the same name and meaning.
_SAME: Final[Mapping[str, tuple[str, ...]]] = {
    "boolean": ("default", "const", "description"),
    "integer": ("default", "const", "enum", "minimum", "maximum", "description"),
    "string": ("default", "const", "enum", "description"),
}
_FORMATS: Final = {"datetime": "date-time", "uri": "uri"}


def describe_api(
    catalog: Catalog, auth_modes: Mapping[str, str], *, title: str, version: str
) -> Json:
    """Return the document for the methods that are the keys of `auth_modes`.

    The values are "none", "optional" or "required".
    """
    schemas = _Schemas(catalog)
    paths = {
        f"/xrpc/{nsid}": _path_item(nsid, catalog, auth_modes[nsid], schemas)
        for nsid in sorted(auth_modes)
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR_SCHEMA, **schemas.finish()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _path_item(nsid: str, catalog: Catalog, auth: str, schemas: _Schemas) -> Json:
    main = schemas.definition(nsid)
    kind = main["type"]
    operation: Json = {
        "operationId": nsid,
        "tags": [nsid.rpartition(".")[0]],
        "summary": nsid.rpartition(".")[2],
    }
    if "description" in main:
        operation["description"] = main["description"]
    if "parameters" in main:
        operation["parameters"] = _parameters(main["parameters"], nsid, schemas)
    if "input" in main:
        operation["requestBody"] = {
            "required": True,
            "content": _content(main["input"], nsid, schemas),
        }
    operation["responses"] = _responses(main, nsid, auth, schemas)
    if auth == "required":
        operation["security"] = [{"bearer": []}]
    elif auth == "optional":
        operation["security"] = [{}, {"bearer": []}]
    if kind == "subscription":
        operation["x-websocket"] = True
    return {"post" if kind == "procedure" else "get": operation}


def _parameters(params: Schema, nsid: str, schemas: _Schemas) -> list[Json]:
    required = params.get("required", ())
    found = []
    for name, definition in params.get("properties", {}).items():
        parameter: Json = {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": schemas.convert(definition, nsid),
        }
        if "description" in definition:
            parameter["description"] = definition["description"]
        if definition.get("type") == "array":
            parameter |= {"style": "form", "explode": True}
        found.append(parameter)
    return found


def _content(body: Schema, nsid: str, schemas: _Schemas) -> Json:
    if "schema" in body:
        return {body["encoding"]: {"schema": schemas.convert(body["schema"], nsid)}}
    return {body["encoding"]: {}}


def _responses(main: Schema, nsid: str, auth: str, schemas: _Schemas) -> Json:
    if main["type"] == "subscription":
        success: Json = {"101": {"description": "Frames over a WebSocket"}}
    else:
        success = {"200": {"description": "Success"}}
        if "output" in main:
            success["200"]["content"] = _content(main["output"], nsid, schemas)
    names = [error["name"] for error in main.get("errors", ())]
    responses = success | {"400": _error("InvalidRequest", *names)}
    if auth != "none":
        responses["401"] = _error("AuthMissing", "BadJwt", "JwtExpired")
    responses["500"] = _error("InternalServerError")
    return responses


def _error(*names: str) -> Json:
    return {
        "description": ", ".join(names),
        "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


class _Schemas:
    """A converter of definitions that collects the definitions they refer to."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._done: dict[str, Json] = {}
        self._waiting: list[str] = []
        self._converters: Mapping[str, Callable[[Schema, str], Json]] = {
            "array": self._array,
            "object": self._object,
            "params": self._object,
            "record": lambda schema, nsid: self._object(schema["record"], nsid),
            "ref": lambda schema, nsid: self._ref(schema["ref"], nsid),
            "union": self._union,
            "string": self._string,
            "boolean": lambda schema, nsid: self._plain(schema, "boolean"),
            "integer": lambda schema, nsid: self._plain(schema, "integer"),
        }

    def definition(self, name: str) -> Schema:
        """Return the lexicon definition of "nsid" or "nsid#name", else "unknown"."""
        return self._catalog.find_schema(name) or {"type": "unknown"}

    def finish(self) -> dict[str, Json]:
        """Return all schemas that were referred to, directly or not."""
        while self._waiting:
            ref = self._waiting.pop()
            nsid = ref.partition("#")[0]
            self._done[_schema_name(ref)] = self.convert(self.definition(ref), nsid)
        return dict(sorted(self._done.items()))

    def convert(self, schema: Schema, nsid: str) -> Json:
        """Return the JSON Schema of a lexicon schema found in the document `nsid`."""
        kind = schema.get("type", "unknown")
        converter = self._converters.get(kind)
        return converter(schema, nsid) if converter else _simple(kind, schema)

    def _plain(self, schema: Schema, kind: str) -> Json:
        same = {key: schema[key] for key in _SAME[kind] if key in schema}
        return {"type": kind, **same}

    def _string(self, schema: Schema, nsid: str) -> Json:
        found = self._plain(schema, "string")
        if "format" in schema:
            found["format"] = _FORMATS.get(schema["format"], schema["format"])
        # Lexicons count bytes or graphemes, JSON Schema counts code points: at most as
        # many as bytes, at least as many as graphemes.
        if "maxLength" in schema:
            found["maxLength"] = schema["maxLength"]
        if "minGraphemes" in schema:
            found["minLength"] = schema["minGraphemes"]
        if "maxGraphemes" in schema:
            found["x-max-graphemes"] = schema["maxGraphemes"]
        if "knownValues" in schema:
            found["examples"] = schema["knownValues"]
        return found

    def _array(self, schema: Schema, nsid: str) -> Json:
        found: Json = {"type": "array", "items": self.convert(schema["items"], nsid)}
        if "minLength" in schema:
            found["minItems"] = schema["minLength"]
        if "maxLength" in schema:
            found["maxItems"] = schema["maxLength"]
        return found

    def _object(self, schema: Schema, nsid: str) -> Json:
        nullable = schema.get("nullable", ())
        properties = {}
        for name, definition in schema.get("properties", {}).items():
            found = self.convert(definition, nsid)
            if name in nullable:
                found = {"anyOf": [found, {"type": "null"}]}
            properties[name] = found
        whole: Json = {"type": "object", "properties": properties}
        if schema.get("required"):
            whole["required"] = schema["required"]
        if "description" in schema:
            whole["description"] = schema["description"]
        return whole

    def _ref(self, ref: str, nsid: str) -> Json:
        absolute = resolve_ref(ref, nsid)
        name = _schema_name(absolute)
        if name not in self._done:
            self._done[name] = {}
            self._waiting.append(absolute)
        return {"$ref": f"#/components/schemas/{name}"}

    def _union(self, schema: Schema, nsid: str) -> Json:
        variants = [self._ref(ref, nsid) for ref in schema["refs"]]
        if not schema.get("closed"):
            variants.append({"type": "object", "required": ["$type"]})
        return {"anyOf": variants}


def _schema_name(ref: str) -> str:
    return ref.replace("#", ".")


def _simple(kind: str, schema: Schema) -> Json:
    if kind == "bytes":
        return _tagged("$bytes")
    if kind == "cid-link":
        return _tagged("$link")
    if kind == "token":
        return {"type": "string", "description": schema.get("description", "")}
    if kind == "blob":
        return {
            "type": "object",
            "required": ["$type", "ref", "mimeType", "size"],
            "properties": {
                "$type": {"const": "blob"},
                "ref": _tagged("$link"),
                "mimeType": {"type": "string"},
                "size": {"type": "integer", "minimum": 0},
            },
        }
    return {}


def _tagged(key: str) -> Json:
    return {
        "type": "object",
        "required": [key],
        "properties": {key: {"type": "string"}},
    }
