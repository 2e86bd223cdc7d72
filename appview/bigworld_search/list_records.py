"""bigworld.search.listRecords."""

from __future__ import annotations

from typing import Final

from appview.paging import Entry, Keyset, RowPages, Source, Steps
from appview.pipeline import Params
from appview.session import Session
from appview.shapes.any_record import load_any, record_views, shown_any
from storage.records.addresses import Address, find_collections
from storage.records.listing import list_records


def _listed(session: Session, params: Params) -> Source[Address | None]:
    nsid = params["collection"]
    collection = find_collections(session.conn, {nsid}).get(nsid)
    if collection is None:
        return Source(lambda after, limit: [])

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Address | None]]:
        found = list_records(session.conn, collection, limit=limit, after=after)
        return [Entry(item.address, item.keyset) for item in found]

    return Source(fetch)


METHOD: Final[RowPages[Address | None]] = RowPages(
    _listed,
    Steps(
        hydrate=load_any,
        rules=shown_any,
        present=lambda state, page, _: {"records": record_views(state, page)},
    ),
)
