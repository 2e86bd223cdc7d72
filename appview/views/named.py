"""Feed generators, lists, starter packs and labelers."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.records import GENERATOR, LABELER, LIST, STARTER_PACK
from appview.hydration.state import State
from appview.views.account_list import avatar_url, list_view_basic, named_fields
from appview.views.checked import FACET, POLICIES, list_of, part_of
from appview.views.common import present, record_uri, self_labels, text_of
from appview.views.profile import profile_view, profile_view_basic
from protocol.data.cbor import Value
from protocol.data.graphemes import cut_text
from storage.collections import FEED_LIKE, GRAPH_LISTITEM
from storage.records.addresses import Address

GENERATOR_VIEW: Final = "app.bsky.feed.defs#generatorView"
LIST_VIEW: Final = "app.bsky.graph.defs#listView"
STARTER_PACK_VIEW: Final = "app.bsky.graph.defs#starterPackViewBasic"
LABELER_VIEW: Final = "app.bsky.labeler.defs#labelerView"
_MAX_DESCRIPTION: Final = 300
_MAX_DESCRIPTION_BYTES: Final = 3_000


def generator_view(state: State, address: Address) -> dict[str, Any]:
    """Return a feed generator."""
    named = state.named[address]
    value = named.record.value
    accepts = value.get("acceptsInteractions")
    return present(
        **named_fields(state, named),
        did=text_of(value, "did"),
        creator=profile_view(state, state.actors[address.actor]),
        displayName=text_of(value, "displayName") or "",
        **_description(value),
        avatar=avatar_url(state, named),
        likeCount=named.likes,
        acceptsInteractions=accepts if isinstance(accepts, bool) else None,
        viewer=_like(state, address),
        contentMode=text_of(value, "contentMode"),
    )


def list_view(state: State, address: Address) -> dict[str, Any]:
    """Return a list of accounts."""
    return list_view_basic(state, address) | present(
        creator=profile_view(state, state.actors[address.actor]),
        **_description(state.named[address].record.value),
    )


def list_item_view(
    state: State, held: Address, rkey: int, actor: int
) -> dict[str, Any]:
    """Return a member of a list, with the record that put it there."""
    owner = state.actors[held.actor].did
    return {
        "uri": record_uri(state, owner, GRAPH_LISTITEM, rkey),
        "subject": profile_view(state, state.actors[actor]),
    }


def starter_pack_view_basic(state: State, address: Address) -> dict[str, Any]:
    """Return a starter pack in short (starterPackViewBasic)."""
    named = state.named[address]
    return {
        **named_fields(state, named),
        "record": named.record.json,
        "creator": profile_view_basic(state, state.actors[address.actor]),
        "joinedAllTimeCount": named.joined,
        "joinedWeekCount": named.joined_this_week,
    }


def labeler_view(state: State, address: Address) -> dict[str, Any]:
    """Return a labeler service."""
    named = state.named[address]
    actor = state.actors[address.actor]
    view = named_fields(state, named)
    view["labels"] += self_labels(actor.did, view["uri"], named.record)
    return present(
        **view,
        creator=profile_view(state, actor),
        likeCount=named.likes,
        viewer=_like(state, address),
    )


def labeler_view_detailed(state: State, address: Address) -> dict[str, Any] | None:
    """Return a labeler service with its policies; None if they are not valid."""
    value = state.named[address].record.value
    policies = part_of(value, "policies", POLICIES)
    if policies is None:
        return None
    return labeler_view(state, address) | present(
        policies=policies,
        **{
            name: [text for text in items if isinstance(text, str)]
            for name in ("reasonTypes", "subjectTypes", "subjectCollections")
            if isinstance(items := value.get(name), list)
        },
    )


def embedded_view(state: State, address: Address) -> dict[str, Any] | None:
    """Return the view of a named record inside a post, with its `$type`."""
    if address not in state.named:
        return None
    kind, view = {
        GENERATOR: (GENERATOR_VIEW, generator_view),
        LIST: (LIST_VIEW, list_view),
        STARTER_PACK: (STARTER_PACK_VIEW, starter_pack_view_basic),
        LABELER: (LABELER_VIEW, labeler_view),
    }[address.collection]
    return {"$type": kind, **view(state, address)}


def _like(state: State, address: Address) -> dict[str, str] | None:
    viewer = state.session.viewer
    if viewer is None:
        return None
    reaction = state.reactions.get(address)
    like = reaction.like if reaction else None
    return present(like=record_uri(state, viewer.did, FEED_LIKE, like))


def _description(value: dict[str, Value]) -> dict[str, Any]:
    text = text_of(value, "description")
    return {
        "description": cut_text(
            text, graphemes=_MAX_DESCRIPTION, size=_MAX_DESCRIPTION_BYTES
        )
        if text
        else None,
        "descriptionFacets": list_of(value, "descriptionFacets", FACET),
    }
