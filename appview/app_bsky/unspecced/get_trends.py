"""app.bsky.unspecced.getTrends."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Pipeline
from appview.shapes.trends import trends
from appview.views.profile import profile_view_basic

METHOD: Final[Pipeline[Any]] = trends(
    lambda state, actors: {
        "actors": [profile_view_basic(state, state.actors[a]) for a in actors]
    }
)
