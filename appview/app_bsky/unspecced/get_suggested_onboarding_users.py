"""app.bsky.unspecced.getSuggestedOnboardingUsers."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.suggested import account_suggestions

METHOD: Final[RowPages[int]] = account_suggestions()
