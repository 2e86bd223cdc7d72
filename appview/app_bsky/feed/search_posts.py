"""app.bsky.feed.searchPosts."""

from __future__ import annotations

from typing import Final

from appview.paging import SearchPages
from appview.post_queries import read_v1
from appview.shapes.post_search import post_search
from storage.records.addresses import Address

METHOD: Final[SearchPages[Address]] = post_search(read_v1)
