"""The methods and shapes of our lexicons, as the writers of clients need them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parents[2] / "protocol/lexicon/ours/bigworld"
_KINDS: Final = ("query", "procedure", "subscription")

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter or property. `schema` has references with their whole names."""

    name: str
    schema: Schema
    required: bool

    @property
    def text(self) -> str:
        """Return the description, or an empty string."""
        return str(self.schema.get("description", ""))


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with a name of its own."""

    name: str
    text: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A method. `output` is the schema of the reply, or of a message of a stream."""

    nsid: str
    kind: str
    text: str
    parameters: tuple[Field, ...]
    output: Schema | None

    @property
    def group(self) -> str:
        """Return the part of the NSID before the name, such as search."""
        return self.nsid.split(".")[-2]

    @property
    def name(self) -> str:
        """Return the last part of the NSID."""
        return self.nsid.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Interface:
    """All shapes and methods, in the order of their names."""

    shapes: tuple[Shape, ...]
    calls: tuple[Call, ...]

    @property
    def groups(self) -> list[str]:
        """Return the groups of methods."""
        return sorted({call.group for call in self.calls})


def read_interface(folder: Path = FOLDER) -> Interface:
    """Read all lexicons below a folder.

    Raises ValueError for two shapes of one name, and for an object without a name.
    """
    shapes: list[Shape] = []
    calls: list[Call] = []
    for path in sorted(folder.rglob("*.json")):
        document = json.loads(path.read_text())
        nsid = document["id"]
        for name, schema in document["defs"].items():
            if schema["type"] in _KINDS:
                call, output = _read_call(nsid, schema)
                calls.append(call)
                shapes += output
            else:
                ref = f"{nsid}#{name}"
                if schema["type"] == "record":
                    ref, schema = f"{nsid}#record", schema["record"]
                schema = {"description": f"Object {ref}."} | schema
                shapes.append(_read_shape(nsid, shape_name(ref), schema))
    names = [shape.name for shape in shapes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two shapes have one name: {', '.join(sorted(twice))}")
    shapes.sort(key=lambda shape: shape.name)
    return Interface(tuple(shapes), tuple(calls))


def shape_name(ref: str) -> str:
    """Return the name of the shape of a whole reference.

    Shapes of a `defs` document have a short name; others begin with their method's.
    """
    nsid, _, name = ref.partition("#")
    owner = nsid.rpartition(".")[2]
    return (
        upper_first(name) if owner == "defs" else upper_first(owner + upper_first(name))
    )


def snake_case(name: str) -> str:
    """Return a name in lower case with underscores."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def upper_first(name: str) -> str:
    """Return a name that begins with a capital letter."""
    return name[:1].upper() + name[1:]


def _read_call(nsid: str, schema: Schema) -> tuple[Call, list[Shape]]:
    kind = schema["type"]
    source = schema.get("parameters") or schema.get("input", {}).get("schema", {})
    output = (schema.get("output") or schema.get("message") or {}).get("schema")
    shapes = []
    if output is not None and output["type"] == "object":
        name = upper_first(nsid.rpartition(".")[2] + "Output")
        shapes.append(
            _read_shape(nsid, name, output | {"description": f"Reply of {nsid}."})
        )
        output = {"type": "name", "name": name}
    elif output is not None:
        output = _resolve(output, nsid)
    fields = tuple(_read_fields(nsid, source))
    return Call(nsid, kind, schema.get("description", ""), fields, output), shapes


def _read_shape(nsid: str, name: str, schema: Schema) -> Shape:
    if schema["type"] != "object":
        raise ValueError(f"{nsid}: {name} is no object")
    text = schema.get("description", "")
    return Shape(name, text, tuple(_read_fields(nsid, schema)))


def _read_fields(nsid: str, schema: Schema) -> Iterator[Field]:
    required = schema.get("required", [])
    for name, value in schema.get("properties", {}).items():
        yield Field(name, _resolve(value, nsid), name in required)


def _resolve(schema: Schema, nsid: str) -> Schema:
    """Return a schema whose references have whole names."""
    if schema["type"] == "object":
        raise ValueError(f"{nsid}: give the object a name in defs")
    if schema["type"] == "array":
        return schema | {"items": _resolve(schema["items"], nsid)}
    if schema["type"] == "ref":
        return schema | {"ref": _whole(schema["ref"], nsid)}
    if schema["type"] == "union":
        return schema | {"refs": [_whole(ref, nsid) for ref in schema["refs"]]}
    return schema


def _whole(ref: str, nsid: str) -> str:
    return nsid + ref if ref.startswith("#") else ref
