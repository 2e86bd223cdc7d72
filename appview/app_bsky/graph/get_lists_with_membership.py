"""app.bsky.graph.getListsWithMembership."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.paging import RowPages, Source
from appview.pipeline import Params
from appview.session import Session
from appview.shapes.lists import lists_of, membership_pages
from appview.skeletons.named_accounts import find_account
from appview.views.named import list_view
from storage.records.addresses import Address


def _own(session: Session, params: Params) -> Source[Address]:
    find_account(session, params["actor"])
    return lists_of(session, session.viewer_actor, params)


def _view(state: State, address: Address) -> dict[str, Any]:
    return {"list": list_view(state, address)}


METHOD: Final[RowPages[Address]] = membership_pages(
    _own,
    "listsWithMembership",
    lambda state, page: state.load_named(page.items),
    _view,
)
