"""Trends with the accounts that posted last, hydrated or as skeletons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, shown_actors
from appview.session import Session
from appview.skeletons.trends import read_trends, topic_link, topic_name
from appview.views.common import datetime_text
from search.topics import Trend


def trends(actors: Callable[[State, list[int]], dict[str, Any]]) -> Pipeline[Any]:
    """Return the pipeline of the topics on the rise; `actors` are those of one."""

    def found(session: Session, params: Params) -> list[Trend]:
        return read_trends(session, rising=True)[: params["limit"]]

    def present(state: State, found: list[Trend], _: Params) -> dict[str, Any]:
        return {"trends": [_view(t) | actors(state, _shown(state, t)) for t in found]}

    return Pipeline(
        skeleton=found,
        hydrate=lambda state, found: state.load_actors(
            actor for trend in found for actor in trend.actors
        ),
        rules=lambda state, found: found,
        present=present,
    )


def _shown(state: State, trend: Trend) -> list[int]:
    return shown_actors(state, Place.SUGGESTION, trend.actors)


def _view(trend: Trend) -> dict[str, Any]:
    return {
        "topic": topic_name(trend),
        "displayName": trend.topic,
        "link": topic_link(trend),
        "startedAt": datetime_text(trend.started_at),
        "postCount": trend.posts,
        "status": "hot",
    }
