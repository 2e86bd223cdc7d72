"""app.bsky.graph.getFollows."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.follows import follow_pages
from appview.skeletons.top_follows import top_follows
from storage.records.backlinks import find_follows

METHOD: Final[RowPages[int]] = follow_pages(find_follows, top_follows, "follows")
