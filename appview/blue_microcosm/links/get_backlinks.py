"""blue.microcosm.links.getBacklinks."""

from __future__ import annotations

from typing import Any, Final

from appview.paging import RowPages
from appview.pipeline import Params
from appview.session import Session
from appview.shapes.backlinks import FoundLink, link_pages, link_record, read_wanted
from storage.records.link_paths import count_links_to


def count_total(session: Session, params: Params) -> dict[str, Any]:
    """Return the field `total`: the number of links, up to a limit."""
    wanted = read_wanted(session, params)
    if wanted.target is None:
        return {"total": 0}
    counts = (count_links_to(session.conn, p.id, wanted.target) for p in wanted.paths)
    return {"total": sum(count.links for count in counts)}


METHOD: Final[RowPages[FoundLink]] = link_pages("records", link_record, count_total)
