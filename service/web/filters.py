"""Filters of the page templates: times, counts, links."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlsplit

from service.web.moments import show_moment, show_written
from service.web.richtext import has_marks, mark_spans, mark_text, render_text


def permalink(uri: str) -> str:
    """Return the path of a post's page."""
    did, _, rkey = uri.removeprefix("at://").split("/")
    return f"/post/{quote(did, safe=':')}/{quote(rkey, safe=':')}"


def record_page(uri: str, page: str) -> str:
    """Return the path of a page (proof) about a record."""
    parts = uri.removeprefix("at://").split("/")
    return f"/{page}/" + "/".join(quote(part, safe=":") for part in parts)


def collection_of(uri: str) -> str:
    """Return the collection in the AT-URI of a record."""
    return uri.removeprefix("at://").split("/")[1]


def site_of(url: str) -> str:
    """Return the host of a web address."""
    return urlsplit(url).netloc.rpartition("@")[2]


def first_image(view: dict[str, Any]) -> str:
    """Return the address of the first picture of a post, else of its author.

    Pictures with a label are not shown in previews.
    """
    if view.get("labels"):
        return ""
    embed = view.get("embed", {})
    embed = embed.get("media", embed)
    for item in [*embed.get("images", ()), *embed.get("items", ())]:
        return str(item.get("thumb") or item.get("thumbnail"))
    card: str = embed.get("external", {}).get("thumb", "")
    return card or str(view["author"].get("avatar", ""))


def initial(profile: dict[str, Any]) -> str:
    """Return the letter that stands for an account without a picture."""
    name = (profile.get("displayName") or profile.get("handle") or "?").strip()
    return next((c for c in name if c.isalnum()), "?").upper()


def cut(text: Any, length: int) -> str:
    """Return the start of a text on one line."""
    line = " ".join(str(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


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
    "marked": mark_text,
    "has_marks": has_marks,
    "mark_spans": mark_spans,
    "permalink": permalink,
    "record_page": record_page,
    "collection": collection_of,
    "site": site_of,
    "first_image": first_image,
    "initial": initial,
    "cut": cut,
    "moment": show_moment,
    "written": show_written,
    "count": show_count,
    "ago": show_ago,
    "since": show_since,
    "span": show_span,
    "until": show_until,
    "lag": show_lag,
    "rate": show_rate,
}
