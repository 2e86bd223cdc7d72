"""Integer arrays as query parameters.

A long list costs psycopg a Python call an item; as one text literal it costs a join.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def int_array(values: Iterable[int]) -> str:
    """The literal of an integer array; the query casts it (`%s::int8[]`)."""
    return "{" + ",".join(map(str, values)) + "}"


def int_columns(rows: Sequence[Sequence[int]], width: int) -> list[str]:
    """Rows of `width` integers as one literal a column."""
    if not rows:
        return ["{}"] * width
    return [int_array(column) for column in zip(*rows, strict=True)]
