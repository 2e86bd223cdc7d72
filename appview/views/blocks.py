"""Blocks between the viewer and an account, and the lists behind them."""

from __future__ import annotations

from typing import Any

from appview.hydration.state import State
from appview.views.common import present, rkey_text
from storage.collections import GRAPH_BLOCK
from storage.records.addresses import Address


def block_state(state: State, actor: int) -> dict[str, Any]:
    """Return `blockedBy`, and `blocking` if the viewer blocks the account.

    `blocking` is the viewer's record, or the list with the account.
    """
    viewer = state.session.viewer
    if viewer is None or viewer.actor is None:
        return {"blockedBy": False}
    restrictions = state.restrictions
    by = restrictions.block(actor, viewer.actor)
    block = restrictions.block(viewer.actor, actor)
    uri = None
    if block is not None and block.record is not None:
        uri = f"at://{viewer.did}/{GRAPH_BLOCK}/{rkey_text(state, block.record)}"
    elif block is not None and block.list is not None:
        uri = state.uris.get(block.list)
    return present(blockedBy=by is not None, blocking=uri)


def blocking_list(state: State, actor: int) -> Address | None:
    """Return the list by which the viewer blocks an account."""
    viewer = state.session.viewer_actor
    block = None if viewer is None else state.restrictions.block(viewer, actor)
    return block.list if block and block.list in state.named else None


def blocked_author(state: State, actor: int, did: str) -> dict[str, Any]:
    """Return the author in the placeholder of a blocked post."""
    if state.session.viewer is None:
        return {"did": did}
    return {"did": did, "viewer": block_state(state, actor)}
