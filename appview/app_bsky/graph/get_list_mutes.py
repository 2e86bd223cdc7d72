"""app.bsky.graph.getListMutes: the lists that the viewer mutes, the latest first."""

from __future__ import annotations

from typing import Final

from appview.hydration.records import LIST
from appview.hydration.state import State
from appview.paging import Page, SearchPages, Steps
from appview.rules import Place, decide_record
from appview.shapes.private.private_pages import private_source, subject_of
from appview.views.named import list_view
from storage.private.private_items import Kind
from storage.records.addresses import find_addresses


def _load(state: State, page: Page[str]) -> None:
    state.by_uri |= find_addresses(state.session.conn, page.items)
    state.load_named(state.by_uri[uri] for uri in page.items if uri in state.by_uri)


def _shown(state: State, page: Page[str]) -> list[str]:
    return [
        uri
        for uri in page.items
        if (found := state.by_uri.get(uri)) is not None
        and found.collection == LIST
        and decide_record(state, Place.NAMED, found) is None
    ]


METHOD: Final[SearchPages[str]] = SearchPages(
    private_source(Kind.LIST_MUTE, subject_of),
    Steps(
        hydrate=_load,
        rules=_shown,
        present=lambda state, page, _: {
            "lists": [list_view(state, state.by_uri[uri]) for uri in page.items]
        },
    ),
    auth="required",
)
