"""Lists of accounts without creators, and the fields of all named records."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.records import Named
from appview.hydration.state import State
from appview.views.blob_url import image_url
from appview.views.common import (
    datetime_text,
    label_views,
    present,
    record_uri,
    text_of,
)
from protocol.data.blob import blob_cid
from protocol.data.graphemes import cut_text
from storage.collections import GRAPH_LISTBLOCK
from storage.records.addresses import Address

_MAX_NAME_BYTES: Final = 64


def list_view_basic(state: State, address: Address) -> dict[str, Any]:
    """Return a list of accounts in short (listViewBasic)."""
    named = state.named[address]
    name = text_of(named.record.value, "name") or ""
    return present(
        **named_fields(state, named),
        # Cutting a name of one huge cluster leaves nothing; the lexicon needs a letter.
        name=cut_text(name, graphemes=len(name), size=_MAX_NAME_BYTES) or "list",
        purpose=text_of(named.record.value, "purpose"),
        avatar=avatar_url(state, named),
        listItemCount=named.items,
        viewer=_viewer_state(state, address),
    )


def named_fields(state: State, named: Named) -> dict[str, Any]:
    """Return the fields that all named records have."""
    address = named.record.address
    uri = state.uris[address]
    return {
        "uri": uri,
        "cid": named.record.cid,
        "labels": label_views(state, address, uri),
        "indexedAt": datetime_text(named.sort_at),
    }


def avatar_url(state: State, named: Named) -> str | None:
    """Return the URL of a record's picture."""
    cid = blob_cid(named.record.value.get("avatar"))
    return image_url(state, state.actors[named.record.address.actor], cid, "avatar")


def _viewer_state(state: State, address: Address) -> dict[str, Any] | None:
    viewer = state.session.viewer
    if viewer is None:
        return None
    reaction = state.reactions.get(address)
    block = reaction.block if reaction else None
    blocked = record_uri(state, viewer.did, GRAPH_LISTBLOCK, block)
    muted = state.session.private.is_list_muted(state.uris[address])
    return present(muted=muted, blocked=blocked)
