"""app.bsky.unspecced.getSuggestedFeedsSkeleton."""

from __future__ import annotations

from typing import Final

from appview.shapes.skeleton import Skeleton, uris
from appview.shapes.suggested import feed_suggestions

METHOD: Final = Skeleton(feed_suggestions(uris("feeds")))
