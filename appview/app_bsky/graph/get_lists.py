"""app.bsky.graph.getLists."""

from __future__ import annotations

from typing import Final

from appview.paging import RowPages
from appview.shapes.lists import list_pages, lists_of
from appview.skeletons.named_accounts import find_account
from storage.records.addresses import Address

METHOD: Final[RowPages[Address]] = list_pages(
    lambda session, params: lists_of(
        session, find_account(session, params["actor"]), params
    ),
    "lists",
)
