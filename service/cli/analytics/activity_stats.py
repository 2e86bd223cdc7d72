"""`bigworld stats`: the tables of the statistics page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from analytics.statistics import read_statistics
from service.cli.table import print_rows
from service.operator_errors import ServiceError
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing
from service.web.statistics.statistics_page import (
    StatisticsTable,
    as_csv,
    make_tables,
)
from storage.postgres.pool import connect


def show_stats(config: Config, name: str | None, form: str) -> None:
    """Print one table, or all of them with their titles."""
    with open_existing(config, INDEX, start=True) as url, connect(url) as conn:
        tables = make_tables(read_statistics(conn, datetime.now(UTC)))
    shown = [table for table in tables if name in (None, table.name)]
    if not shown:
        known = ", ".join(table.name for table in tables)
        raise ServiceError(f"there is no table {name}; give one of {known}")
    for table in shown:
        if form == "csv":
            typer.echo(as_csv(table), nl=False)
            continue
        rows = _named(table)
        if form == "json":
            rows = [{"table": table.name} | row for row in rows]
        else:
            typer.echo(f"{table.title}: {table.note}")
        print_rows(rows, table.head, as_json=form == "json")


def _named(table: StatisticsTable) -> Sequence[dict[str, Any]]:
    return [dict(zip(table.head, row, strict=True)) for row in table.rows]
