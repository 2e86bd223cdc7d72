"""Topics of the moment, as clients show them."""

from __future__ import annotations

from urllib.parse import quote

from appview.session import Session
from search.topics import Trend, find_trends


def read_trends(session: Session, *, rising: bool) -> list[Trend]:
    """Return the topics that are on the rise, or those that are merely common."""
    return [t for t in find_trends(session.conn) if t.rising is rising]


def topic_name(trend: Trend) -> str:
    """Return the name of a topic, without the mark of a tag."""
    return trend.topic.removeprefix("#")


def topic_link(trend: Trend) -> str:
    """Return the path of the search for a topic, the same in clients and here."""
    query = trend.topic if trend.topic[0] == "#" else f"domain:{trend.topic}"
    return f"/search?q={quote(query, safe='')}"
