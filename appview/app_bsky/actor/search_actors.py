"""app.bsky.actor.searchActors."""

from __future__ import annotations

from typing import Final

from appview.paging import SearchPages
from appview.rules import Place, shown_actors
from appview.shapes.account_search import account_search
from appview.views.profile import profile_view

METHOD: Final[SearchPages[int]] = account_search(
    lambda engine: engine.search_actors,
    lambda state, page: shown_actors(state, Place.ACTOR_HIT, page.items),
    profile_view,
)
