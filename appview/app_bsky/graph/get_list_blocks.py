"""app.bsky.graph.getListBlocks: the lists by which the viewer blocks."""

from __future__ import annotations

from typing import Final

from appview.paging import Entry, Keyset, RowPages, Source
from appview.pipeline import Params
from appview.session import Session
from appview.shapes.lists import list_pages
from appview.skeletons.lists import find_blocked_lists
from storage.records.addresses import Address


def _blocked(session: Session, _: Params) -> Source[Address]:
    viewer = session.viewer_actor

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Address]]:
        if viewer is None:
            return []
        return find_blocked_lists(session.conn, viewer, after, limit)

    return Source(fetch, [viewer])


METHOD: Final[RowPages[Address]] = list_pages(_blocked, "lists", auth="required")
