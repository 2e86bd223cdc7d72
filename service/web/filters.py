"""Filters of the page templates: times, counts, links."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from urllib.parse import quote

from service.web.richtext import render_text


def permalink(uri: str) -> str:
    """Return the path of a post's page."""
    did, _, rkey = uri.removeprefix("at://").split("/")
    return f"/post/{quote(did, safe=':')}/{quote(rkey, safe=':')}"


def show_day(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%d %b %Y, %H:%M")
    except ValueError:
        return text[:10]


def show_count(number: int) -> str:
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1000:.1f}K" if number < 1_000_000 else f"{number / 1e6:.1f}M"


def show_ago(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def show_span(seconds: float) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}s"
    return f"{seconds:.0f} seconds"


def show_since(seconds: float) -> str:
    """Format the age of an event, which may be ahead of our clock."""
    if seconds < -60:
        return f"{show_span(-seconds)} ahead of our clock"
    return "just now" if seconds < 5 else f"{show_span(seconds)} ago"


def show_until(seconds: float) -> str:
    return "within a minute" if seconds < 60 else f"in {show_span(seconds)}"


def show_lag(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if abs(seconds) < 10 else show_ago(seconds)


def show_rate(per_second: float) -> str:
    if per_second >= 1:
        return f"{per_second:,.1f}/s"
    if per_second * 60 >= 1:
        return f"{per_second * 60:.1f}/min"
    return f"{per_second * 3_600:.1f}/h"


FILTERS: Final = {
    "rich": render_text,
    "permalink": permalink,
    "day": show_day,
    "count": show_count,
    "ago": show_ago,
    "since": show_since,
    "span": show_span,
    "until": show_until,
    "lag": show_lag,
    "rate": show_rate,
}
