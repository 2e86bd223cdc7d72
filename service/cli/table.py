"""Tables for people, JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table

_PIPE_WIDTH: Final = 240


def print_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool
) -> None:
    """Print rows as a table, or each with all its fields as one JSON object a line."""
    if as_json:
        for row in rows:
            print(json.dumps(row, default=_plain, ensure_ascii=False))
        return
    if not rows:
        print("nothing found")
        return
    table = Table(box=None)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = [_plain(row[column]) for column in columns]
        table.add_row(*["" if cell is None else str(cell) for cell in cells])
    console = Console()
    # Lines of a file or a pipe are not folded.
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    console.print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    return value
