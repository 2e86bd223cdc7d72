"""Arrays as query parameters.

A long list costs psycopg a Python call for each item; one text literal costs a join.
The query casts the literal (`%s::int8[]`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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
