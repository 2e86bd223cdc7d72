"""com.atproto.label.queryLabels: labels in force, as their labelers signed them."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.session import Session
from appview.shapes.signed_labels import load_subjects, present_labels, shown_labels
from appview.skeletons.signed_labels import StoredLabel, find_ranges, labels_in
from storage.records.addresses import find_actors


def _source(session: Session, params: Params) -> Source[StoredLabel]:
    conn = session.conn
    known = session.app.default_labelers
    wanted = params.get("sources") or known
    sources = [*find_actors(conn, {did for did in wanted if did in known}).values()]
    ranges = find_ranges(conn, params["uriPatterns"], sources)

    def fetch(after: Keyset | None, limit: int) -> list[Entry[StoredLabel]]:
        return labels_in(conn, ranges, sources, after=after, limit=limit)

    return Source(fetch)


def _present(state: State, page: Page[StoredLabel], _: Params) -> dict[str, Any]:
    return present_labels(page.items)


METHOD: Final[RowPages[StoredLabel]] = RowPages(
    _source,
    Steps(
        hydrate=lambda state, page: load_subjects(state, page.items),
        rules=lambda state, page: shown_labels(state, page.items),
        present=_present,
    ),
)
