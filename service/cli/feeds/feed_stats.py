"""`bigworld feed stats`: readers, pages, latency and interactions of each feed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from service.cli.groups import AsJson, read_config
from service.cli.table import print_rows
from service.runtime.databases import PRIVATE, open_database
from storage.postgres.pool import connect
from storage.private.feeds.feed_hours import (
    EVENTS,
    FAILED,
    FeedHour,
    read_hours,
    total_by_feed,
)

_MAX_HOURS: Final = 24 * 90
_COLUMNS: Final = (
    "feed",
    "readers",
    "pages",
    "empty",
    "failed",
    "p99_ms",
    "interactions",
)


def stats(
    feed: Annotated[
        str | None,
        typer.Argument(help="Name or AT-URI of a feed; default: all feeds."),
    ] = None,
    hours: Annotated[
        int, typer.Option(min=1, max=_MAX_HOURS, help="Hours to add up.")
    ] = 24,
    by_hour: Annotated[
        bool, typer.Option("--by-hour", help="Show each hour by itself.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show readers, pages, latency and interactions of feeds."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    with open_database(read_config(), PRIVATE) as url:
        conn = connect(url)
        try:
            counted = read_hours(conn, since)
        finally:
            conn.close()
    if feed is not None:
        counted = [one for one in counted if feed in (one.feed, _name(one.feed))]
    if by_hour:
        rows = [{"hour": f"{one.hour:%Y-%m-%d %H:%M}"} | _row(one) for one in counted]
        print_rows(rows, ("hour", *_COLUMNS), as_json=as_json)
    else:
        totals = [_row(one) for one in total_by_feed(counted)]
        print_rows(totals, _COLUMNS, as_json=as_json)


def _row(counted: FeedHour) -> dict[str, Any]:
    events = {
        event.partition("#")[2]: count
        for event, count in zip(EVENTS, counted.events, strict=False)
        if count
    }
    failed = events.pop(FAILED.partition("#")[2], 0)
    return {
        "feed": counted.feed,
        "readers": counted.readers.count(),
        "pages": counted.pages,
        "empty": counted.empty_pages,
        "failed": failed,
        "p99_ms": counted.latency_ms(0.99),
        "interactions": " ".join(f"{name}={n}" for name, n in events.items()),
    }


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]
