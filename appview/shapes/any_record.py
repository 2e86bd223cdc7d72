"""Records of any collection in pages: loaded, filtered and shown as they are."""

from __future__ import annotations

from typing import Any

from appview.hydration.state import State
from appview.paging import Page
from appview.rules import Place, shown_records
from appview.views.common import datetime_text, present
from storage.records.addresses import Address
from storage.records.listing import fetch_listed

RecordsPage = Page[Address | None]
"""Addresses; None fills a page that found too few."""


def load_any(state: State, page: RecordsPage) -> None:
    """Load records with authors and labels."""
    wanted = [address for address in page.items if address is not None]
    state.load_records(wanted)
    state.load_actors(address.actor for address in wanted)
    state.load_record_labels(wanted)


def shown_any(state: State, page: RecordsPage) -> list[Address | None]:
    """Return the records that are shown, in order."""
    held = [a for a in page.items if a in state.records and a in state.uris]
    return [*shown_records(state, Place.ANY_RECORD, held)]


def record_views(state: State, page: RecordsPage) -> list[dict[str, Any]]:
    """Return the records with their authors and the times of their indexing."""
    shown = [address for address in page.items if address is not None]
    times = fetch_listed(state.session.conn, shown)
    views = []
    for address in shown:
        record, actor = state.records[address], state.actors[address.actor]
        at = times.get(address)
        views.append(
            present(
                uri=state.uris[address],
                cid=record.cid,
                value=record.json,
                author=present(did=actor.did, handle=actor.handle),
                indexedAt=None if at is None else datetime_text(at),
            )
        )
    return views
