"""app.bsky.actor.searchActorsTypeahead."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.paging import Page, SearchPages
from appview.rules import Place, shown_actors
from appview.shapes.account_search import account_search
from appview.views.profile import profile_view_basic


def _shown(state: State, page: Page[int]) -> list[int]:
    """Return the shown hits; a whole handle finds its account across a block too."""
    shown = []
    for actor in page.items:
        found = state.actors.get(actor)
        is_exact = found is not None and found.handle == page.query_text
        place = Place.EXACT_HIT if is_exact else Place.ACTOR_HIT
        shown += shown_actors(state, place, [actor])
    return shown


METHOD: Final[SearchPages[int]] = account_search(
    lambda engine: engine.typeahead, _shown, profile_view_basic, has_cursor=False
)
