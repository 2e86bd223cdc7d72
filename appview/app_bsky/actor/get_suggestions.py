"""app.bsky.actor.getSuggestions."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.suggested import account_suggestions, present_known

METHOD: Final[RowPages[int]] = account_suggestions(
    present_known("actors"), has_cursor=True
)
