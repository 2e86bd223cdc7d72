"""app.bsky.actor.searchActorsTypeahead."""

from __future__ import annotations

from typing import Final

from appview.paging import SearchPages
from appview.shapes.account_search import typeahead_pages
from appview.views.profile import profile_view_basic

METHOD: Final[SearchPages[int]] = typeahead_pages(
    lambda state, page, _: {
        "actors": [profile_view_basic(state, state.actors[a]) for a in page.items]
    },
    has_cursor=False,
)
