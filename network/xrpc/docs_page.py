"""The page at /docs: the OpenAPI document for people, without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from starlette.responses import HTMLResponse

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1a1f2b; --dim: #5b6474; --page: #f6f7f9;
  --card: #fff; --line: #dde1e8; --get: #0b6e4f; --post: #8a4b08; --ws: #5b2a86;
  --accent: #0a58ca; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #9aa4b5;
  --page: #12151b; --card: #1b2029; --line: #2c3340; --get: #4ec9a0; --post: #e0a458;
  --ws: #b892e0; --accent: #7db0ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { margin: 0; font-size: 1.9rem; } h2 { margin: 2.2rem 0 .6rem; font-size: 1.05rem;
  font-family: ui-monospace, monospace; color: var(--dim); }
a { color: var(--accent); } code { font-family: ui-monospace, monospace;
  font-size: .92em; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .3rem .9rem; margin-top: 1rem; }
details { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  margin: .4rem 0; } summary { cursor: pointer; padding: .6rem .8rem; display: flex;
  flex-wrap: wrap; gap: .3rem .7rem; align-items: baseline; }
summary span { color: var(--dim); font-size: .9rem; flex: 1 1 16rem; }
.verb { font: 700 .75rem ui-monospace, monospace; min-width: 2.6rem; }
.get { color: var(--get); } .post { color: var(--post); } .ws { color: var(--ws); }
.key { font-size: .75rem; border: 1px solid var(--line); border-radius: 1rem;
  padding: 0 .55rem; color: var(--dim); }
.body { border-top: 1px solid var(--line); padding: .4rem .8rem 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } td, th { text-align:
  left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid var(--line); } td:first-child {
  white-space: nowrap; } h3 { font-size: .9rem; margin: 1rem 0 .2rem; }
.table { overflow-x: auto; } .must { color: var(--post); }
"""


def render_docs(api: Mapping[str, Any]) -> HTMLResponse:
    """Return a page with every method of an OpenAPI document, by namespace."""
    title = escape(api["info"]["title"])
    groups: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, item in api["paths"].items():
        for verb, operation in item.items():
            groups.setdefault(operation["tags"][0], []).append((verb, path, operation))
    links = "".join(
        f'<a href="#{escape(name)}">{escape(name)}</a>' for name in sorted(groups)
    )
    sections = "".join(
        f'<h2 id="{escape(name)}">{escape(name)}</h2>'
        + "".join(_operation(*entry, api) for entry in groups[name])
        for name in sorted(groups)
    )
    count = len(api["paths"])
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} API</title><style>{_STYLE}</style><main>"
        f"<h1>{title} API</h1><p>Version {escape(api['info']['version'])}, {count} "
        'methods over <a href="https://atproto.com/specs/xrpc">XRPC</a>. For programs: '
        '<a href="/openapi.json">openapi.json</a>.</p>'
        f"<nav>{links}</nav>{sections}</main></html>"
    )
    return HTMLResponse(
        page,
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _operation(
    verb: str, path: str, operation: Mapping[str, Any], api: Mapping[str, Any]
) -> str:
    if operation.get("x-websocket"):
        verb = "ws"
    description = operation.get("description", "")
    brief = description.partition(". ")[0]
    security = operation.get("security")
    key = ""
    if security:
        key = "sign-in optional" if {} in security else "sign-in required"
        key = f'<b class="key">{key}</b>'
    return (
        f'<details id="{escape(operation["operationId"])}"><summary>'
        f'<b class="verb {verb}">{verb.upper()}</b>'
        f"<code>{escape(operation['summary'])}</code>"
        f'<span>{escape(brief)}</span>{key}</summary><div class="body">'
        f"<p><code>{escape(path)}</code></p><p>{escape(description)}</p>"
        + "".join(_parts(operation, api))
        + "</div></details>"
    )


def _parts(operation: Mapping[str, Any], api: Mapping[str, Any]) -> Iterator[str]:
    parameters = operation.get("parameters", ())
    if parameters:
        rows = [
            (item["name"], item["schema"], item["required"], item.get("description"))
            for item in parameters
        ]
        yield "<h3>Parameters</h3>" + _table(rows)
    if "requestBody" in operation:
        yield from _content("Body", operation["requestBody"], api)
    for status, response in operation["responses"].items():
        if status == "200":
            yield from _content("Answer", response, api)
    errors = {
        name
        for status, response in operation["responses"].items()
        if status not in ("101", "200")
        for name in response["description"].split(", ")
    }
    names = ", ".join(f"<code>{escape(name)}</code>" for name in sorted(errors))
    yield f"<h3>Errors</h3><p>{names}</p>"


def _content(
    heading: str, body: Mapping[str, Any], api: Mapping[str, Any]
) -> Iterator[str]:
    for encoding, media in body.get("content", {}).items():
        yield f"<h3>{heading}: <code>{escape(encoding)}</code></h3>"
        schema = media.get("schema", {})
        if "$ref" in schema:
            schema = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        if properties:
            yield _table(
                [
                    (name, value, name in required, value.get("description"))
                    for name, value in properties.items()
                ]
            )


def _table(rows: list[tuple[str, Mapping[str, Any], bool, str | None]]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code>"
        + ('<b class="must" title="required">*</b>' if required else "")
        + f"<td><code>{escape(_type_name(schema))}</code><td>{escape(text or '')}"
        for name, schema, required, text in rows
    )
    return f'<div class="table"><table>{cells}</table></div>'


def _type_name(schema: Mapping[str, Any]) -> str:
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
