"""app.bsky.unspecced.getSuggestedUsersForDiscoverSkeleton."""

from __future__ import annotations

from typing import Final

from appview.shapes.skeleton import Skeleton, dids
from appview.shapes.suggested import account_suggestions

METHOD: Final = Skeleton(account_suggestions(dids))
