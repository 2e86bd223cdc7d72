"""`bigworld sql`: read-only SQL over the views of the schema `analytics`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from analytics.questions import Bounds, QuestionError, Result, ask, open_reader
from service.cli.table import print_rows
from service.operator_errors import ServiceError
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing
from storage.postgres.pool import Conn

_MAX_FILE: Final = 100_000
_LIST_VIEWS: Final = """
    SELECT table_name AS view, string_agg(column_name, ', ' ORDER BY ordinal_position)
        AS columns
    FROM information_schema.columns WHERE table_schema = 'analytics'
    GROUP BY 1 ORDER BY 1
"""


def run_sql(
    config: Config,
    statement: str | None,
    file: Path | None,
    form: str,
    bounds: Bounds,
) -> None:
    """Print the rows of one statement, or of those typed in."""
    if statement is not None and file is not None:
        raise ServiceError("give a statement or --file, not both")
    if file is not None:
        statement = _read(file)
    with (
        open_existing(config, INDEX, start=True) as url,
        open_reader(url) as conn,
    ):
        if statement is None and sys.stdin.isatty():
            _converse(conn, form, bounds)
            return
        try:
            if statement is None:
                statement = sys.stdin.read(_MAX_FILE)
            _run(conn, statement, form, bounds)
        except QuestionError as error:
            raise ServiceError(str(error)) from error


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.read(_MAX_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"{file} is not readable: {error}") from error


def _converse(conn: Conn, form: str, bounds: Bounds) -> None:
    """Read statements that end with a semicolon, until `\\q` or the end."""
    print("statements end with ;  \\d lists the views  \\q quits", file=sys.stderr)
    lines: list[str] = []
    while True:
        try:
            line = input("   ...> " if lines else "bigworld> ")
        except EOFError:
            return
        if line.strip() == "\\q":
            return
        lines.append(line)
        if not line.rstrip().endswith(";") and line.strip() != "\\d":
            continue
        try:
            _run(conn, "\n".join(lines), form, bounds)
        except QuestionError as error:
            print(error, file=sys.stderr)
        lines = []


def _run(conn: Conn, statement: str, form: str, bounds: Bounds) -> None:
    if statement.strip() == "\\d":
        statement = _LIST_VIEWS
    result = ask(conn, statement, bounds)
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows([_cell(value) for value in row] for row in result.rows)
    else:
        print_rows(_named(result), result.columns, as_json=form == "json")
    if result.cut:
        print(f"more than {bounds.rows} rows: use LIMIT or --rows", file=sys.stderr)


def _named(result: Result) -> Sequence[dict[str, Any]]:
    return [
        dict(zip(result.columns, map(_plain, row), strict=True)) for row in result.rows
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, date | datetime) else value


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, default=str, ensure_ascii=False)
    return _plain(value)
