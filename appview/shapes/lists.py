"""Pages of lists and of starter packs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_actors, shown_records
from appview.session import Session
from appview.skeletons.lists import (
    find_lists,
    find_memberships,
    find_packs,
    purposes_of,
)
from appview.skeletons.named_accounts import find_account
from appview.views.named import list_item_view, list_view
from network.xrpc.server import AuthMode
from storage.records.addresses import Address

Find = Callable[[Session, Params], Source[Address]]
View = Callable[[State, Address], dict[str, Any]]


def lists_of(session: Session, actor: int | None, params: Params) -> Source[Address]:
    """Return the lists of an account that have a requested purpose."""
    purposes = purposes_of(params)

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Address]]:
        assert actor is not None
        return find_lists(session.conn, actor, purposes, after, limit)

    return Source(fetch if actor is not None else _nothing, [actor])


def packs_of(session: Session, actor: int | None) -> Source[Address]:
    """Return the starter packs of an account."""

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Address]]:
        assert actor is not None
        return find_packs(session.conn, actor, after, limit)

    return Source(fetch if actor is not None else _nothing, [actor])


def list_pages(
    source: Find, name: str, view: View = list_view, auth: AuthMode = "optional"
) -> RowPages[Address]:
    """Return pages of lists or starter packs in the field `name`."""
    return RowPages(
        source,
        Steps(
            hydrate=lambda state, page: state.load_named(page.items),
            rules=_shown,
            present=lambda state, page, _: {
                name: [view(state, address) for address in page.items]
            },
        ),
        auth=auth,
    )


def membership_pages(
    source: Find,
    name: str,
    hydrate: Callable[[State, Page[Address]], None],
    view: Callable[[State, Address], dict[str, Any]],
    held: Callable[[State, Address], Address | None] = lambda state, address: address,
) -> RowPages[Address]:
    """Return pages of the viewer's lists, each with its item of the account `actor`.

    `view` makes the parts without that item, `held` finds the list of a record.
    """

    def present(state: State, page: Page[Address], params: Params) -> dict[str, Any]:
        lists = {address: held(state, address) for address in page.items}
        known = [found for found in lists.values() if found is not None]
        actor = find_account(state.session, params["actor"])
        rkeys: dict[Address, int] = {}
        if actor is not None:
            state.load_actors([actor])
            if shown_actors(state, Place.ACTOR, [actor]):
                rkeys = find_memberships(state.session.conn, known, actor)
                state.name_rkeys(rkeys.values())
        views = []
        for address, found in lists.items():
            entry = view(state, address)
            if found in rkeys and actor is not None:
                entry["listItem"] = list_item_view(state, found, rkeys[found], actor)
            views.append(entry)
        return {name: views}

    return RowPages(source, Steps(hydrate, _shown, present), auth="required")


def _shown(state: State, page: Page[Address]) -> list[Address]:
    return shown_records(state, Place.NAMED, page.items)


def _nothing(after: Keyset | None, limit: int) -> list[Entry[Address]]:
    return []
