"""app.bsky.feed.searchPostsV2."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.paging import Page, SearchPages
from appview.pipeline import Params
from appview.post_queries import query_languages, read_v2
from appview.shapes.post_search import post_search, present_posts
from storage.records.addresses import Address


def _present(state: State, page: Page[Address], params: Params) -> dict[str, Any]:
    found = query_languages(params.get("query") or "", params.get("queryLanguage"))
    languages = {"detectedQueryLanguages": found} if found else {}
    return present_posts(state, page, params) | languages


METHOD: Final[SearchPages[Address]] = post_search(read_v2, _present)
