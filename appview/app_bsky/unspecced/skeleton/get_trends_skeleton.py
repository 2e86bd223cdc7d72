"""app.bsky.unspecced.getTrendsSkeleton."""

from __future__ import annotations

from typing import Final

from appview.shapes.skeleton import Skeleton
from appview.shapes.trends import trends

METHOD: Final = Skeleton(
    trends(lambda state, actors: {"dids": [state.actors[a].did for a in actors]})
)
