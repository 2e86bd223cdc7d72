"""app.bsky.graph.getBlocks: the accounts that the viewer blocks by record."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.paging import Entry, Keyset, RowPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_actors
from appview.session import Session
from appview.views.profile import profile_view
from storage.records.backlinks import find_blocks, link_keyset


def _blocked(session: Session, _: Params) -> Source[int]:
    viewer = session.viewer_actor

    def fetch(after: Keyset | None, limit: int) -> list[Entry[int]]:
        if viewer is None:
            return []
        page = find_blocks(session.conn, viewer, limit=limit, after=after)
        return [Entry(k.actor, link_keyset(page, after, k)) for k in page[0]]

    return Source(fetch, [viewer])


METHOD: Final[RowPages[int]] = RowPages(
    _blocked,
    Steps(
        hydrate=lambda state, page: State.load_actors(state, page.items),
        rules=lambda state, page: shown_actors(state, Place.ACTOR, page.items),
        present=lambda state, page, _: {
            "blocks": [profile_view(state, state.actors[a]) for a in page.items]
        },
    ),
    auth="required",
)
