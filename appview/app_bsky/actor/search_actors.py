"""app.bsky.actor.searchActors."""

from __future__ import annotations

from typing import Final

from appview.paging import SearchPages
from appview.shapes.account_search import search_pages
from appview.shapes.suggested import present_profiles

METHOD: Final[SearchPages[int]] = search_pages(present_profiles)
