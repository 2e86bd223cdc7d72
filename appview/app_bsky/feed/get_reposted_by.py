"""app.bsky.feed.getRepostedBy."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.rules import Place, shown_actors
from appview.shapes.reactions import reaction_pages
from appview.views.profile import profile_view
from storage.collections import REPOST_SUBJECT
from storage.records.backlinks import LinkSource

METHOD: Final[RowPages[LinkSource]] = reaction_pages(
    REPOST_SUBJECT,
    "repostedBy",
    rules=lambda state, page: shown_actors(
        state, Place.REPOSTER, [link.actor for link in page.items]
    ),
    view=lambda state, link: profile_view(state, state.actors[link.actor]),
)
