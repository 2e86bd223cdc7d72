"""Times on pages: relative ones to read, exact ones on hover."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup

_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun",
    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_TIME: Final = Markup('<time datetime="{}" title="{}">{}</time>')


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


def read_moment(text: Any) -> datetime | None:
    """Return the time in a text, None if it is not one."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def short_age(moment: datetime, now: datetime) -> str:
    """Return an age as `5 min`, `3 h` or `2 d`, and of older times the date."""
    seconds = (now - moment).total_seconds()
    if -_MINUTE < seconds < _MINUTE:
        return "now"
    if 0 < seconds < 7 * _DAY:
        for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
            if seconds >= size:
                return f"{seconds // size:.0f} {unit}"
    day = f"{moment.day} {_MONTHS[moment.month - 1]}"
    return day if moment.year == now.year else f"{day} {moment.year}"


def exact_time(moment: datetime) -> str:
    """Return a time to the second."""
    # strftime writes years before 1000 with too few digits.
    day = f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"
    return f"{day}, {moment.hour:02}:{moment.minute:02}:{moment.second:02} UTC"


def show_moment(text: Any, *, clock: Callable[[], datetime] = utc_now) -> Markup:
    """Render a time, relative to now; an invalid one as it is."""
    moment = read_moment(text)
    if moment is None:
        return Markup("{}").format(str(text)[:10])
    return _render(moment, exact_time(moment), clock())


def show_written(
    view: dict[str, Any], *, clock: Callable[[], datetime] = utc_now
) -> Markup:
    """Render the time of a post: as claimed, but never after its indexing."""
    indexed = read_moment(view.get("indexedAt"))
    created = read_moment(view.get("record", {}).get("createdAt"))
    moment = created or indexed
    if moment is None:
        return Markup("")
    title = exact_time(moment)
    if indexed is not None and moment > indexed:
        title = f"claims {title}; indexed {exact_time(indexed)}"
        moment = indexed
    return _render(moment, title, clock())


def _render(moment: datetime, title: str, now: datetime) -> Markup:
    stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _TIME.format(stamp, title, short_age(moment, now))
