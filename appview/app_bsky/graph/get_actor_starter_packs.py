"""app.bsky.graph.getActorStarterPacks."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.lists import list_pages, packs_of
from appview.skeletons.named_accounts import find_account
from appview.views.named import starter_pack_view_basic
from storage.records.addresses import Address

METHOD: Final[RowPages[Address]] = list_pages(
    lambda session, params: packs_of(session, find_account(session, params["actor"])),
    "starterPacks",
    starter_pack_view_basic,
)
