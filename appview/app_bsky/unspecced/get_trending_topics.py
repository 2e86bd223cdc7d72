"""app.bsky.unspecced.getTrendingTopics."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params, SessionRead
from appview.session import Session
from appview.skeletons.trends import read_trends, topic_link, topic_name
from search.topics import Trend


def _read(session: Session, params: Params) -> dict[str, Any]:
    limit = params["limit"]
    return {
        "topics": [_view(t) for t in read_trends(session, rising=True)[:limit]],
        "suggested": [_view(t) for t in read_trends(session, rising=False)[:limit]],
    }


def _view(trend: Trend) -> dict[str, str]:
    return {
        "topic": topic_name(trend),
        "displayName": trend.topic,
        "description": trend.explain(),
        "link": topic_link(trend),
    }


METHOD: Final = SessionRead(_read)
