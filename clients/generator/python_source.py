"""Write the Python client."""

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
    snake_case,
    upper_first,
)

_WIDTH: Final = 88
_HEAD: Final = '''\
"""Our methods, typed. Generated from the lexicons by `make docs`: do not edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from bigworld_client.transport import Transport

'''
_SCALARS: Final = {"string": "str", "integer": "int", "boolean": "bool"}
_RESERVED: Final = frozenset({"from", "in", "is", "not", "or", "and", "class", "def"})


def write_python(interface: Interface) -> str:
    """Return the module of all shapes and methods."""
    parts = [_HEAD]
    parts += [_shape(shape) for shape in interface.shapes]
    for group in interface.groups:
        calls = [call for call in interface.calls if call.group == group]
        parts.append(_group(group, calls))
    parts.append(_client(interface.groups))
    return "\n".join(parts)


def _shape(shape: Shape) -> str:
    lines = [f"class {shape.name}(TypedDict):"]
    lines += _docstring(shape.text, 4)
    for field in shape.fields:
        kind = _type(field.schema)
        lines.append(
            f"    {field.name}: {kind if field.required else f'NotRequired[{kind}]'}"
        )
        if field.text:
            lines += _docstring(field.text, 4)
    return "\n".join([*lines, "", ""])


def _group(group: str, calls: Sequence[Call]) -> str:
    lines = [
        f"class {upper_first(group)}:",
        f'    """Methods of bigworld.{group}."""',
        "",
        "    def __init__(self, transport: Transport) -> None:",
        "        self._transport = transport",
        "",
    ]
    for call in calls:
        lines += [*_method(call), ""]
    return "\n".join([*lines, ""])


def _method(call: Call) -> Iterator[str]:
    fields = sorted(call.parameters, key=lambda field: not field.required)
    output = "None" if call.output is None else _type(call.output)
    reply = f"Iterator[{output}]" if call.kind == "subscription" else output
    yield f"    def {snake_case(call.name)}("
    yield "        self,"
    if fields:
        yield "        *,"
    for field in fields:
        kind = _type(field.schema, sequence=True)
        tail = "" if field.required else " | None = None"
        yield f"        {_argument(field)}: {kind}{tail},"
    yield f"    ) -> {reply}:"
    yield from _method_text(call, fields)
    values = ", ".join(f'"{field.name}": {_argument(field)}' for field in fields)
    arguments = f'"{call.nsid}", {{{values}}}'
    if call.output is None:
        yield f"        self._transport.{call.kind}({arguments})"
        return
    verb = "subscribe" if call.kind == "subscription" else call.kind
    yield f"        reply: {reply} = self._transport.{verb}({arguments})"
    yield "        return reply"


def _method_text(call: Call, fields: Sequence[Field]) -> Iterator[str]:
    about = [
        (_argument(field), field.text.rstrip(".")) for field in fields if field.text
    ]
    lines = textwrap.wrap(call.text, _WIDTH - 11)
    if not about:
        yield from _docstring(call.text, 8)
        return
    yield f'        """{lines[0]}'
    yield from (f"        {line}" for line in lines[1:])
    yield ""
    for name, text in about:
        yield from textwrap.wrap(
            f"{name}: {text}.",
            _WIDTH,
            initial_indent=" " * 8,
            subsequent_indent=" " * 12,
        )
    yield '        """'


def _client(groups: Sequence[str]) -> str:
    lines = [
        "class Client(Transport):",
        '    """A client of one provider, or of a PDS that forwards to it."""',
        "",
        "    def __init__(",
        "        self,",
        "        service: str,",
        "        *,",
        "        token: str | None = None,",
        "        proxy: str | None = None,",
        "        headers: Mapping[str, str] | None = None,",
        "        timeout: float = 30.0,",
        "    ) -> None:",
        "        super().__init__(",
        "            service,",
        "            token=token,",
        "            proxy=proxy,",
        "            headers=headers,",
        "            timeout=timeout,",
        "        )",
        *(f"        self.{group} = {upper_first(group)}(self)" for group in groups),
    ]
    return "\n".join([*lines, ""])


def _type(schema: Schema, *, sequence: bool = False) -> str:
    """Return the annotation of a schema; `sequence` for what a caller gives."""
    kind = schema["type"]
    if kind == "array":
        items = _type(schema["items"])
        return f"Sequence[{items}]" if sequence else f"list[{items}]"
    if kind == "ref":
        return shape_name(schema["ref"])
    if kind == "name":
        return str(schema["name"])
    if kind == "union":
        return " | ".join(shape_name(ref) for ref in schema["refs"])
    return _SCALARS.get(kind, "Any")


def _argument(field: Field) -> str:
    name = snake_case(field.name)
    return f"{name}_" if name in _RESERVED else name


def _docstring(text: str, indent: int) -> list[str]:
    space = " " * indent
    if len(text) + indent + 6 <= _WIDTH:
        return [f'{space}"""{text}"""']
    lines = textwrap.wrap(text, _WIDTH - indent - 6)
    return [
        f'{space}"""{lines[0]}',
        *(space + line for line in lines[1:]),
        space + '"""',
    ]
