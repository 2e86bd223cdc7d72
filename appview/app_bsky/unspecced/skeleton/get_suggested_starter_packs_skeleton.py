"""app.bsky.unspecced.getSuggestedStarterPacksSkeleton."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.shapes.skeleton import Skeleton, uris
from appview.shapes.suggested import pack_suggestions

METHOD: Final = Skeleton(pack_suggestions(uris("starterPacks"), State.load_named))
