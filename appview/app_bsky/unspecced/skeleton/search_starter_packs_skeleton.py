"""app.bsky.unspecced.searchStarterPacksSkeleton."""

from __future__ import annotations

from typing import Final

from appview.hydration.records import STARTER_PACK
from appview.shapes.record_search import record_search
from appview.shapes.skeleton import Skeleton, uri_objects

METHOD: Final = Skeleton(record_search(STARTER_PACK, "q", uri_objects("starterPacks")))
