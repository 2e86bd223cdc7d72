"""Arrays as query parameters.

A long list costs psycopg a Python call for each item; one text literal costs a join.
The query casts the literal (`%s::int8[]`) or compares it (`= ANY(%s)`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import DataError
from psycopg.abc import DumperKey
from psycopg.adapt import PyFormat
from psycopg.types.array import BaseListDumper, ListDumper


def int_array(values: Iterable[int]) -> str:
    """Return the literal of an integer array."""
    return "{" + ",".join(map(str, values)) + "}"


def int_columns(rows: Sequence[Sequence[int]], width: int) -> list[str]:
    """Return rows of `width` integers as one literal for each column."""
    if not rows:
        return ["{}"] * width
    return [int_array(column) for column in zip(*rows, strict=True)]


def text_array(values: Iterable[str | None]) -> str:
    """Return the literal of a text array; the texts hold no NUL."""
    return "{" + ",".join(map(_quote, values)) + "}"


def bytes_array(values: Iterable[bytes | None]) -> str:
    """Return the literal of a bytea array."""
    items = ("NULL" if v is None else f'"\\\\x{v.hex()}"' for v in values)
    return "{" + ",".join(items) + "}"


def _quote(text: str | None) -> str:
    if text is None:
        return "NULL"
    if text.isalnum():  # a TID, a word: but NULL itself must be quoted
        return f'"{text}"'
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class LiteralDumper(ListDumper):
    """Sends a list of integers or of texts as a literal, other lists as psycopg does.

    The statement gives the type, so lists of small and of large numbers share a plan.
    """

    def get_key(self, obj: list[Any], format: PyFormat) -> DumperKey:
        """Return the type of the items, if they are sent as a literal."""
        types = {*map(type, obj)}
        if types == {int} or types == {str}:
            return self.cls, types.pop()
        return super().get_key(obj, format)

    def upgrade(self, obj: list[Any], format: PyFormat) -> BaseListDumper:
        """Return the dumper of lists of this key."""
        types = {*map(type, obj)}
        if types == {int}:
            return _IntsDumper(self.cls)
        if types == {str}:
            return _TextsDumper(self.cls)
        return super().upgrade(obj, format)


class _IntsDumper(ListDumper):
    def dump(self, obj: list[int]) -> bytes:
        return int_array(obj).encode()


class _TextsDumper(ListDumper):
    def dump(self, obj: list[str]) -> bytes:
        literal = text_array(obj)
        if "\0" in literal:
            raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return literal.encode()
