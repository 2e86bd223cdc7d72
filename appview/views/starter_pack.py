"""Starter packs with their list, members and feeds (starterPackView)."""

from __future__ import annotations

from typing import Any

from appview.hydration.records import GENERATOR, LIST
from appview.hydration.starter_packs import MAX_SHOWN_MEMBERS, feed_uris, list_uri
from appview.hydration.state import State
from appview.rules import Place, shown_actors, shown_records
from appview.views.account_list import list_view_basic
from appview.views.common import present
from appview.views.named import (
    generator_view,
    list_item_view,
    starter_pack_view_basic,
)
from storage.records.addresses import Address


def starter_pack_view(state: State, address: Address) -> dict[str, Any]:
    """Return a starter pack that was loaded with its parts."""
    value = state.named[address].record.value
    list_ = pack_list(state, address)
    lists = [list_] if list_ is not None else []
    shown = shown_records(state, Place.NAMED, lists)
    feeds = [state.by_uri[uri] for uri in feed_uris(value) if uri in state.by_uri]
    feeds = [feed for feed in dict.fromkeys(feeds) if feed.collection == GENERATOR]
    return starter_pack_view_basic(state, address) | present(
        list=list_view_basic(state, shown[0]) if shown else None,
        listItemsSample=_members(state, shown[0]) if shown else [],
        feeds=[
            generator_view(state, feed)
            for feed in shown_records(state, Place.NAMED, feeds)
        ],
    )


def pack_list(state: State, address: Address) -> Address | None:
    """Return the list of a loaded starter pack."""
    uri = list_uri(state.named[address].record.value)
    found = state.by_uri.get(uri) if uri else None
    return found if found is not None and found.collection == LIST else None


def _members(state: State, list_: Address) -> list[dict[str, Any]]:
    members: dict[int, int] = {}
    for rkey, actor in state.members.get(list_, []):
        members.setdefault(actor, rkey)
    owner = None if list_.actor == state.session.viewer_actor else list_.actor
    shown = shown_actors(state, Place.MEMBER, members, beside=owner)
    return [
        list_item_view(state, list_, members[actor], actor)
        for actor in shown[:MAX_SHOWN_MEMBERS]
    ]
