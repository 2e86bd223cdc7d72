"""The statistics page: plots, the numbers as tables, and CSV of each table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from analytics.statistics import KINDS, Statistics, read_statistics
from appview.app import AppView
from network.server.admission import working
from service.web.statistics.svg_plots import plot_bars

_TABLES: Final = ("hours", "days", "active", "languages", "hosts", "topics")
_PLOTTED: Final = 3
"""Kinds with a plot of their own: posts, likes and reposts."""
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class StatisticsTable:
    """A table with its plots; `name` is the last part of the address of its CSV."""

    name: str
    title: str
    note: str
    head: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    plots: list[Markup]


class StatisticsPage:
    """Activity, languages, hosts and topics of the index."""

    def __init__(self, app: AppView, threads: CapacityLimiter) -> None:
        self._app = app
        self._threads = threads

    def routes(self, show: Callable[[Request], Any]) -> Sequence[Route]:
        """Return the routes of the page and of its CSV files."""
        return [
            Route("/statistics", show),
            Route("/statistics/{name}.csv", self._csv),
        ]

    def page(self, _: Request) -> dict[str, Any]:
        """Return the values of the template."""
        return {"title": "Statistics", "tables": self._tables()}

    def _tables(self) -> list[StatisticsTable]:
        with self._app.pool.connection() as conn:
            found = read_statistics(conn, datetime.now(UTC))
        return make_tables(found)

    async def _csv(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _TABLES:
            return PlainTextResponse("no such table", 404)
        async with working(request.scope):
            tables = await run_sync(self._tables, limiter=self._threads)
        [table] = [table for table in tables if table.name == name]
        return Response(
            as_csv(table),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
        )


def make_tables(found: Statistics) -> list[StatisticsTable]:
    """Return the tables of the page in order."""
    series = [
        ("hours", "Activity by hour", "the last two days", found.hours, "%d %b %H:00"),
        ("days", "Activity by day", "the last 34 days", found.days, "%d %b"),
    ]
    tables = []
    for name, title, note, points, form in series:
        labels = [f"{point.at:{form}}" for point in points]
        plots = [
            plot_bars(
                f"{name}-{kind}",
                f"{kind.capitalize()}, {note}, UTC",
                labels,
                [point.counts[place] for point in points],
            )
            for place, kind in enumerate(KINDS[:_PLOTTED])
        ]
        rows = [(f"{p.at:%Y-%m-%d %H:%M}", *p.counts) for p in reversed(points)]
        head = ("UTC", *KINDS)
        tables.append(StatisticsTable(name, title, note, head, rows, plots))
    active = plot_bars(
        "active",
        "Active accounts by day",
        [f"{day:%d %b}" for day, _ in found.active],
        [count for _, count in found.active],
    )
    tables += [
        StatisticsTable(
            "active",
            "Active accounts by day",
            "accounts that posted or liked",
            ("day", "accounts"),
            [
                (f"{day:%Y-%m-%d}", count)
                for day, count in reversed(found.active)
                if count is not None
            ],
            [active],
        ),
        StatisticsTable(
            "languages",
            "Languages",
            "posts of the last seven days that declare them",
            ("language", "posts"),
            list(found.languages),
            [],
        ),
        StatisticsTable(
            "hosts",
            "Hosts",
            "those with most accounts",
            ("host", "accounts"),
            list(found.hosts),
            [],
        ),
        StatisticsTable(
            "topics",
            "Tags and domains",
            "counted by accounts, those on the rise first",
            ("topic", "accounts", "posts", "usual accounts", "change"),
            [
                (t.topic, t.accounts, t.posts, round(t.usual, 1), t.explain())
                for t in found.topics
            ],
            [],
        ),
    ]
    return tables


def as_csv(table: StatisticsTable) -> str:
    """Return a table as CSV; texts cannot become formulas of a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.head)
    writer.writerows([_cell(value) for value in row] for row in table.rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return value
