"""Feed generators, lists and starter packs."""

from __future__ import annotations

from typing import Any

from appview.hydration.records import GENERATOR, LIST, STARTER_PACK, Named
from appview.hydration.state import State
from appview.views.common import (
    blob_cid,
    datetime_text,
    image_url,
    label_views,
    present,
    text_of,
)
from appview.views.profile import profile_view, profile_view_basic
from protocol.json_form import to_json
from storage.documents import Address

GENERATOR_VIEW = "app.bsky.feed.defs#generatorView"
LIST_VIEW = "app.bsky.graph.defs#listView"
STARTER_PACK_VIEW = "app.bsky.graph.defs#starterPackViewBasic"
_MAX_NAME_CHARS = 64
_MAX_DESCRIPTION_CHARS = 300


def generator_view(state: State, address: Address) -> dict[str, Any]:
    """A feed generator."""
    named = state.named[address]
    value = named.record.value
    return present(
        **_common(state, named),
        did=text_of(value, "did"),
        creator=profile_view(state, state.actors[address.actor]),
        displayName=(text_of(value, "displayName") or "")[:_MAX_NAME_CHARS],
        description=_description(value),
        likeCount=named.likes,
        contentMode=text_of(value, "contentMode"),
    )


def list_view(state: State, address: Address) -> dict[str, Any]:
    """A list of accounts."""
    named = state.named[address]
    value = named.record.value
    return present(
        **_common(state, named),
        creator=profile_view(state, state.actors[address.actor]),
        name=(text_of(value, "name") or "")[:_MAX_NAME_CHARS] or "list",
        purpose=text_of(value, "purpose"),
        description=_description(value),
        listItemCount=named.items,
    )


def starter_pack_view(state: State, address: Address) -> dict[str, Any]:
    """A starter pack."""
    named = state.named[address]
    return present(
        **{k: v for k, v in _common(state, named).items() if k != "avatar"},
        record=to_json(named.record.value),
        creator=profile_view_basic(state, state.actors[address.actor]),
    )


def embedded_view(state: State, address: Address) -> dict[str, Any] | None:
    """The view of a named record inside a post, with its `$type`."""
    if address not in state.named:
        return None
    kind, view = {
        GENERATOR: (GENERATOR_VIEW, generator_view),
        LIST: (LIST_VIEW, list_view),
        STARTER_PACK: (STARTER_PACK_VIEW, starter_pack_view),
    }[address.collection]
    return {"$type": kind, **view(state, address)}


def _common(state: State, named: Named) -> dict[str, Any]:
    record = named.record
    actor = state.actors[record.address.actor]
    uri = state.uris[record.address]
    avatar = blob_cid(record.value.get("avatar"))
    return {
        "uri": uri,
        "cid": record.cid,
        "avatar": image_url(state, actor, avatar, "avatar"),
        "labels": label_views(state, record.address, uri, actor.did, record.value),
        "indexedAt": datetime_text(named.indexed_at),
    }


def _description(value: dict[str, Any]) -> str | None:
    text = text_of(value, "description")
    return text[:_MAX_DESCRIPTION_CHARS] if text else None
