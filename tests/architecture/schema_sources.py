"""The tables of the code with the comments that stand above their columns."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from storage.migrate import TARGETS, merged_metadata

ROOT = Path(__file__).resolve().parents[2]
_TABLE = re.compile(r"^\w+(?:: [^=]+)? = (?:(?:sa\.)?Table|table|_described)\($")
_COLUMN = re.compile(
    r'^\s+(?:(?:sa\.)?Column|int4|int8|text|octets|flag|time)\(\s*"(\w+)"'
)
_NAME = re.compile(r'^\s+(?:"|narrow\.)(\w+)"?,$')
_OPEN = re.compile(r"^\s+(?:(?:sa\.)?Column|int4|int8|text|octets|flag|time)\($")


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """One column and the comment above it."""

    name: str
    kind: str
    nullable: bool
    note: str


@dataclass(frozen=True, slots=True)
class FoundTable:
    """One table and the comment above it."""

    name: str
    note: str
    columns: tuple[FoundColumn, ...]
    key: tuple[str, ...]


Notes = dict[tuple[str, str], str]


def find_tables() -> dict[str, list[FoundTable]]:
    """Return the tables of each database, in order of their names."""
    found = {}
    for name, modules in TARGETS.items():
        notes = read_notes(modules)
        tables = merged_metadata(name).tables
        found[name] = [describe(tables[key], notes) for key in sorted(tables)]
    return found


def describe(table: sa.Table, notes: Notes) -> FoundTable:
    columns = tuple(
        FoundColumn(
            column.name,
            column.type.compile(postgresql.dialect()).lower().partition(" collate")[0],  # type: ignore[no-untyped-call]
            bool(column.nullable),
            notes.get((table.name, column.name), ""),
        )
        for column in table.columns
    )
    key = tuple(column.name for column in table.primary_key.columns)
    return FoundTable(table.name, notes.get((table.name, ""), ""), columns, key)


def read_notes(modules: tuple[str, ...]) -> Notes:
    notes: Notes = {}
    for name in modules:
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        if spec is None or spec.origin is None:
            continue
        path = Path(spec.origin)
        files = path.parent.glob("*.py") if path.name == "__init__.py" else [path]
        for file in files:
            notes |= read_file(file.read_text())
    return notes


def read_file(text: str) -> Notes:
    """Return (table, column) -> comment; the comment of the table has no column."""
    notes: Notes = {}
    table, comment, opens = "", list[str](), ""
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("#"):
            comment.append(bare.lstrip("# "))
            continue
        column, name = _COLUMN.match(line), _NAME.match(line)
        if _TABLE.match(line):
            opens = "table"
            continue
        if _OPEN.match(line):
            opens = "column"
            continue
        if name and opens == "table":
            table = name[1].lower()
            notes[table, ""] = " ".join(comment)
        elif table and (column or (name and opens == "column")):
            found = column or name
            assert found is not None
            notes[table, found[1]] = " ".join(comment)
        if bare:
            comment = []
            opens = ""
    return {place: note for place, note in notes.items() if note}
