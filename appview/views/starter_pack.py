"""Starter packs with their list, members and feeds (starterPackView)."""

from __future__ import annotations

from typing import Any

from appview.hydration.records import GENERATOR, LIST
from appview.hydration.starter_packs import feed_uris, list_uri
from appview.hydration.state import State
from appview.rules import Place, shown_actors, shown_records
from appview.views.account_list import list_view_basic
from appview.views.common import present, record_uri
from appview.views.named import generator_view, starter_pack_view_basic
from appview.views.profile import profile_view
from storage.collections import GRAPH_LISTITEM
from storage.records.addresses import Address


def starter_pack_view(state: State, address: Address) -> dict[str, Any]:
    """Return a starter pack that was loaded with its parts."""
    value = state.named[address].record.value
    uri = list_uri(value)
    list_ = state.by_uri.get(uri) if uri else None
    lists = [list_] if list_ is not None and list_.collection == LIST else []
    shown = shown_records(state, Place.NAMED, lists)
    feeds = [state.by_uri[uri] for uri in feed_uris(value) if uri in state.by_uri]
    feeds = [feed for feed in dict.fromkeys(feeds) if feed.collection == GENERATOR]
    return starter_pack_view_basic(state, address) | present(
        list=list_view_basic(state, shown[0]) if shown else None,
        listItemsSample=_members(state, shown[0]) if shown else None,
        feeds=[
            generator_view(state, feed)
            for feed in shown_records(state, Place.NAMED, feeds)
        ],
    )


def _members(state: State, list_: Address) -> list[dict[str, Any]]:
    members = state.members.get(list_, [])
    actors = dict.fromkeys(actor for _, actor in members)
    shown = {*shown_actors(state, Place.ACTOR_HIT, actors)}
    owner = state.actors[list_.actor].did
    return [
        {
            "uri": record_uri(state, owner, GRAPH_LISTITEM, rkey),
            "subject": profile_view(state, state.actors[actor]),
        }
        for rkey, actor in members
        if actor in shown
    ]
