"""Accounts: profileViewBasic, profileView, profileViewDetailed."""

from __future__ import annotations

from typing import Any

from appview.hydration.actors import Actor
from appview.hydration.state import State
from appview.views.common import (
    account_labels,
    datetime_text,
    image_url,
    present,
    rkey_text,
    text_of,
)
from protocol.json_form import to_json
from storage.collections import (
    ACTOR_PROFILE,
    COLLECTION_IDS,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
    RKEY_SELF,
)
from storage.documents import Address

INVALID_HANDLE = "handle.invalid"
_MAX_NAME_CHARS = 64
_MAX_DESCRIPTION_CHARS = 256


def profile_address(actor: int) -> Address:
    """Where an account's profile record is."""
    return Address(actor, COLLECTION_IDS[ACTOR_PROFILE], RKEY_SELF)


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
    relation = state.relations.get(actor.id)
    if viewer is None or relation is None:
        return None

    def own(collection: str, rkey: int | None, did: str) -> str | None:
        if rkey is None:
            return None
        return f"at://{did}/{collection}/{rkey_text(state, rkey)}"

    return present(
        muted=False,
        blockedBy=relation.blocked_by,
        blocking=own(GRAPH_BLOCK, relation.blocking, viewer.did),
        following=own(GRAPH_FOLLOW, relation.following, viewer.did),
        followedBy=own(GRAPH_FOLLOW, relation.followed_by, actor.did),
    )


def _cut(text: str | None, chars: int) -> str | None:
    return text[:chars] if text else None
