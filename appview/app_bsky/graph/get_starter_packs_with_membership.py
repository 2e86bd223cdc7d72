"""app.bsky.graph.getStarterPacksWithMembership."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.starter_packs import load_packs
from appview.hydration.state import State
from appview.paging import RowPages, Source
from appview.pipeline import Params
from appview.session import Session
from appview.shapes.lists import membership_pages, packs_of
from appview.skeletons.named_accounts import find_account
from appview.views.starter_pack import pack_list, starter_pack_view
from storage.records.addresses import Address


def _own(session: Session, params: Params) -> Source[Address]:
    find_account(session, params["actor"])
    return packs_of(session, session.viewer_actor)


def _view(state: State, address: Address) -> dict[str, Any]:
    return {"starterPack": starter_pack_view(state, address)}


METHOD: Final[RowPages[Address]] = membership_pages(
    _own,
    "starterPacksWithMembership",
    lambda state, page: load_packs(state, page.items),
    _view,
    pack_list,
)
