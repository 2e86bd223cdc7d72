"""app.bsky.graph.getList: a list and its members."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.blocks import MODERATION_LIST
from appview.hydration.records import LIST
from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, decide_record, shown_actors
from appview.session import Session
from appview.skeletons.lists import Member, find_members
from appview.skeletons.thread import find_post
from appview.views.common import text_of
from appview.views.named import list_item_view, list_view
from network.xrpc.server import XrpcError
from storage.records.addresses import Address


def _source(session: Session, params: Params) -> Source[Member]:
    found = find_post(session, params["list"])
    if found is None or found.collection != LIST:
        raise _not_found()

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Member]]:
        return find_members(session.conn, found, after, limit)

    return Source(fetch, found)


def _load(state: State, page: Page[Member]) -> None:
    state.load_named([Address(*page.subject)])
    state.name_rkeys(member.rkey for member in page.items)
    state.load_actors(member.actor for member in page.items)


def _shown(state: State, page: Page[Member]) -> list[Member]:
    held = Address(*page.subject)
    if decide_record(state, Place.NAMED, held) is not None:
        raise _not_found()
    # A list for moderation names accounts that block its owner too.
    purpose = text_of(state.named[held].record.value, "purpose")
    open_to_all = purpose == MODERATION_LIST
    owner = None if open_to_all or held.actor == _viewer(state) else held.actor
    once = [member for member in page.items if not member.repeated]
    actors = [member.actor for member in once]
    shown = {*shown_actors(state, Place.MEMBER, actors, beside=owner)}
    return [member for member in once if member.actor in shown]


def _present(state: State, page: Page[Member], _: Params) -> dict[str, Any]:
    held = Address(*page.subject)
    return {
        "list": list_view(state, held),
        "items": [list_item_view(state, held, m.rkey, m.actor) for m in page.items],
    }


def _viewer(state: State) -> int | None:
    return state.session.viewer_actor


def _not_found() -> XrpcError:
    return XrpcError("InvalidRequest", "List not found", 400)


METHOD: Final[RowPages[Member]] = RowPages(_source, Steps(_load, _shown, _present))
