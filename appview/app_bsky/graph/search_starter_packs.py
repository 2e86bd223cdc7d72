"""app.bsky.graph.searchStarterPacks."""

from __future__ import annotations

from typing import Final

from appview.hydration.records import STARTER_PACK
from appview.paging import SearchPages
from appview.shapes.record_search import record_search
from appview.views.named import starter_pack_view_basic
from storage.records.addresses import Address

METHOD: Final[SearchPages[Address]] = record_search(
    STARTER_PACK,
    "q",
    lambda state, page, _: {
        "starterPacks": [starter_pack_view_basic(state, a) for a in page.items]
    },
)
