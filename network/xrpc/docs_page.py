"""The page at /docs: the OpenAPI document for people, without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from jinja2 import ChainableUndefined, Environment
from starlette.responses import HTMLResponse

Json: TypeAlias = Mapping[str, Any]
Field: TypeAlias = tuple[str, Json, bool]


def render_docs(api: Json) -> HTMLResponse:
    """Return a page with every method of an OpenAPI document, by namespace."""
    schemas = api["components"]["schemas"]

    def resolved(schema: Json) -> Json:
        found: Json = (
            schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        )
        return found

    environment = Environment(autoescape=True, undefined=ChainableUndefined)
    environment.filters |= {
        "type_name": _type_name,
        "resolved": resolved,
        "fields": _fields,
        "parameters": _parameters,
        "error_names": _error_names,
    }
    template = environment.from_string(Path(__file__).with_suffix(".html").read_text())
    groups: dict[str, list[tuple[str, str, Json]]] = {}
    for path, item in api["paths"].items():
        for verb, operation in item.items():
            shown = "ws" if operation.get("x-websocket") else verb
            groups.setdefault(operation["tags"][0], []).append((shown, path, operation))
    page = template.render(
        **api["info"], count=len(api["paths"]), groups=dict(sorted(groups.items()))
    )
    return HTMLResponse(
        page,
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _fields(schema: Json) -> list[Field]:
    required = schema.get("required", ())
    return [
        (name, field, name in required) for name, field in schema["properties"].items()
    ]


def _parameters(operation: Json) -> list[Field]:
    return [
        (
            item["name"],
            {**item["schema"], "description": item.get("description", "")},
            item["required"],
        )
        for item in operation["parameters"]
    ]


def _error_names(operation: Json) -> list[str]:
    return sorted(
        {
            name
            for status, response in operation["responses"].items()
            if status not in ("101", "200")
            for name in response["description"].split(", ")
        }
    )


def _type_name(schema: Json) -> str:
    """Return a short type name: `string (did)`, `array of postView`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition(".")[2]
    if "anyOf" in schema:
        return " or ".join(_type_name(variant) for variant in schema["anyOf"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"array of {_type_name(schema['items'])}"
    if kind == "string" and "format" in schema:
        return f"string ({schema['format']})"
    if kind == "integer" and ("minimum" in schema or "maximum" in schema):
        return f"integer {schema.get('minimum', '')}…{schema.get('maximum', '')}"
    return kind
