"""app.bsky.feed.getSuggestedFeeds."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.suggested import feed_suggestions
from storage.records.addresses import Address

METHOD: Final[RowPages[Address]] = feed_suggestions(has_cursor=True)
