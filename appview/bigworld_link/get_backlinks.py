"""bigworld.link.getBacklinks."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.paging import RowPages
from appview.shapes.backlinks import FoundLink, link_pages, link_record
from appview.views.common import datetime_text, present


def _view(state: State, link: FoundLink) -> dict[str, Any]:
    return present(
        uri=state.uris[link.address],
        handle=state.actors[link.source.actor].handle,
        path=link.path.path.removeprefix("."),
        sortAt=datetime_text(link.source.sort_at),
        **link_record(state, link),
    )


METHOD: Final[RowPages[FoundLink]] = link_pages("links", _view)
