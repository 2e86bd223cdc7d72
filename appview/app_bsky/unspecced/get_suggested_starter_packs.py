"""app.bsky.unspecced.getSuggestedStarterPacks."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.suggested import pack_suggestions
from storage.records.addresses import Address

METHOD: Final[RowPages[Address]] = pack_suggestions()
