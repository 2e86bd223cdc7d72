"""Accounts: profileViewBasic, profileView, profileViewDetailed."""

from __future__ import annotations

from typing import Any

from appview.hydration.actors import Actor, Relation
from appview.hydration.state import State, profile_address
from appview.views.blocks import block_state, blocking_list, list_view_basic
from appview.views.common import (
    account_labels,
    datetime_text,
    image_url,
    present,
    rkey_text,
    text_of,
)
from protocol.json_form import to_json
from storage.collections import GRAPH_FOLLOW

INVALID_HANDLE = "handle.invalid"
_MAX_NAME_CHARS = 64
_MAX_DESCRIPTION_CHARS = 256


def profile_view_basic(state: State, actor: Actor) -> dict[str, Any]:
    """The few fields beside a post."""
    return present(
        did=actor.did,
        handle=actor.handle or INVALID_HANDLE,
        displayName=_cut(actor.display_name, _MAX_NAME_CHARS),
        avatar=image_url(state, actor, actor.avatar, "avatar"),
        associated=_associated(actor),
        viewer=_viewer_state(state, actor),
        labels=account_labels(state, actor),
        createdAt=datetime_text(actor.created_at) if actor.created_at else None,
    )


def profile_view(state: State, actor: Actor) -> dict[str, Any]:
    """An entry in a list of accounts."""
    return profile_view_basic(state, actor) | present(
        description=_cut(actor.description, _MAX_DESCRIPTION_CHARS),
        indexedAt=datetime_text(actor.indexed_at),
    )


def profile_view_detailed(state: State, actor: Actor) -> dict[str, Any]:
    """A whole profile, with counts and the pinned post."""
    record = state.records.get(profile_address(actor.id))
    pinned = record.value.get("pinnedPost") if record else None
    is_reference = isinstance(pinned, dict) and all(
        isinstance(pinned.get(key), str) for key in ("uri", "cid")
    )
    return profile_view(state, actor) | present(
        banner=image_url(state, actor, actor.banner, "banner"),
        pronouns=text_of(record.value, "pronouns") if record else None,
        website=text_of(record.value, "website") if record else None,
        followersCount=actor.followers,
        followsCount=actor.follows,
        postsCount=actor.posts,
        pinnedPost=to_json(pinned) if is_reference else None,
    )


def _associated(actor: Actor) -> dict[str, Any] | None:
    counts: dict[str, Any] = {
        "lists": actor.lists,
        "feedgens": actor.feed_generators,
        "starterPacks": actor.starter_packs,
        "labeler": actor.labeler,
    }
    return counts if any(counts.values()) else None


def _viewer_state(state: State, actor: Actor) -> dict[str, Any] | None:
    viewer = state.session.viewer
    if viewer is None:
        return None
    relation = state.relations.get(actor.id) or Relation()
    blocks = block_state(state, actor.id)
    held = blocking_list(state, actor.id)

    def own(did: str, rkey: int | None) -> str | None:
        # A follow across a block has no effect, and is not shown.
        if rkey is None or blocks["blockedBy"] or "blocking" in blocks:
            return None
        return f"at://{did}/{GRAPH_FOLLOW}/{rkey_text(state, rkey)}"

    return present(
        muted=False,
        **blocks,
        blockingByList=list_view_basic(state, held) if held else None,
        following=own(viewer.did, relation.following),
        followedBy=own(actor.did, relation.followed_by),
    )


def _cut(text: str | None, chars: int) -> str | None:
    return text[:chars] if text else None
