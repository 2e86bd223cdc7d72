"""Write the TypeScript client: only syntax that can be erased, and no library."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from clients.generator.interface import (
    Call,
    Field,
    Interface,
    Schema,
    Shape,
    shape_name,
    upper_first,
)

_WIDTH: Final = 88
_HEAD: Final = """\
// Our methods, typed. Generated from the lexicons by `make docs`: do not edit.
import { Transport } from './transport.ts'
import type { Options } from './transport.ts'

"""
_SCALARS: Final = {"string": "string", "integer": "number", "boolean": "boolean"}


def write_typescript(interface: Interface) -> str:
    """Return the module of all shapes and methods."""
    parts = [_HEAD]
    parts += [_shape(shape) for shape in interface.shapes]
    for group in interface.groups:
        calls = [call for call in interface.calls if call.group == group]
        parts += [_parameters(call) for call in calls if call.parameters]
        parts.append(_group(group, calls))
    parts.append(_client(interface.groups))
    return "\n".join(parts)


def _shape(shape: Shape) -> str:
    head = f"export interface {shape.name} {{"
    return "\n".join([*_comment(shape.text, 0), head, *_fields(shape.fields), "}", ""])


def _parameters(call: Call) -> str:
    head = f"export interface {_input(call)} {{"
    return "\n".join([head, *_fields(call.parameters), "}", ""])


def _fields(fields: Sequence[Field]) -> Iterator[str]:
    for field in fields:
        yield from _comment(field.text, 2)
        mark = "" if field.required else "?"
        yield f"  {field.name}{mark}: {_type(field.schema)}"


def _group(group: str, calls: Sequence[Call]) -> str:
    lines = [
        f"/** Methods of bigworld.{group}. */",
        f"export class {upper_first(group)} {{",
        "  #transport: Transport",
        "",
        "  constructor(transport: Transport) {",
        "    this.#transport = transport",
        "  }",
    ]
    for call in calls:
        lines += ["", *_method(call)]
    return "\n".join([*lines, "}", ""])


def _method(call: Call) -> Iterator[str]:
    output = "void" if call.output is None else _type(call.output)
    given = ""
    if call.parameters:
        needed = any(field.required for field in call.parameters)
        given = f"params: {_input(call)}" + ("" if needed else " = {}")
    sent = "params" if call.parameters else "{}"
    stream = call.kind == "subscription"
    reply = f"{'AsyncGenerator' if stream else 'Promise'}<{output}>"
    verb = "subscribe" if stream else call.kind
    yield from _comment(call.text, 2)
    # Each is a field, so that it can be handed on without its object.
    yield f"  {call.name} = ({given}): {reply} =>"
    yield f"    this.#transport.{verb}('{call.nsid}', {sent})"


def _client(groups: Sequence[str]) -> str:
    lines = [
        "/** A client of one provider, or of a PDS that forwards to it. */",
        "export class Client extends Transport {",
        *(f"  readonly {group}: {upper_first(group)}" for group in groups),
        "",
        "  constructor(service: string, options: Options = {}) {",
        "    super(service, options)",
        *(f"    this.{group} = new {upper_first(group)}(this)" for group in groups),
        "  }",
        "}",
    ]
    return "\n".join([*lines, ""])


def _type(schema: Schema) -> str:
    kind = schema["type"]
    if kind == "array":
        items = _type(schema["items"])
        return f"({items})[]" if " " in items else f"{items}[]"
    if kind == "ref":
        return shape_name(schema["ref"])
    if kind == "name":
        return str(schema["name"])
    if kind == "union":
        return " | ".join(shape_name(ref) for ref in schema["refs"])
    if "knownValues" in schema:
        known = " | ".join(f"'{value}'" for value in schema["knownValues"])
        return f"{known} | (string & {{}})"
    return _SCALARS.get(kind, "unknown")


def _input(call: Call) -> str:
    return upper_first(call.name) + "Input"


def _comment(text: str, indent: int) -> list[str]:
    space = " " * indent
    if not text:
        return []
    if len(text) + indent + 7 <= _WIDTH:
        return [f"{space}/** {text} */"]
    lines = textwrap.wrap(text, _WIDTH - indent - 3)
    return [f"{space}/**", *(f"{space} * {line}" for line in lines), f"{space} */"]
