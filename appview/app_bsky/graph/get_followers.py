"""app.bsky.graph.getFollowers."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.follows import follow_pages
from appview.skeletons.top_follows import top_followers
from storage.records.backlinks import find_followers

METHOD: Final[RowPages[int]] = follow_pages(find_followers, top_followers, "followers")
