"""app.bsky.graph.searchStarterPacksV2."""

from __future__ import annotations

from typing import Final

from appview.hydration.records import STARTER_PACK
from appview.hydration.starter_packs import load_packs
from appview.paging import SearchPages
from appview.shapes.record_search import record_search, total_of
from appview.shapes.suggested import present_packs
from storage.records.addresses import Address

METHOD: Final[SearchPages[Address]] = record_search(
    STARTER_PACK,
    "q",
    lambda state, page, params: (
        present_packs(state, page, params) | total_of(page.notes)
    ),
    load_packs,
)
