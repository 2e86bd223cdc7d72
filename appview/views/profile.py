"""Accounts: profileViewBasic and profileView."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.actors import Actor, Relation
from appview.hydration.labels import account_subject
from appview.hydration.records import CHAT_DECLARATION, GERM_DECLARATION
from appview.hydration.state import State, profile_address
from appview.hydration.subscriptions import allowed_subscribers, may_subscribe
from appview.views.account_list import list_view_basic
from appview.views.account_status import status_view
from appview.views.blob_url import image_url
from appview.views.blocks import block_state, blocking_list
from appview.views.checked import part_of
from appview.views.common import (
    datetime_text,
    label_views,
    present,
    record_uri,
    self_labels,
    text_of,
)
from appview.views.verification import verification_state
from protocol.data.graphemes import cut_text
from storage.collections import ACTOR_PROFILE, GRAPH_FOLLOW
from storage.private.mutes import FULL_MUTE

MESSAGE_ME: Final = f"{GERM_DECLARATION}#messageMe"
INVALID_HANDLE: Final = "handle.invalid"
_MAX_NAME: Final = 64
_MAX_NAME_BYTES: Final = 640
_MAX_DESCRIPTION: Final = 256
_MAX_DESCRIPTION_BYTES: Final = 2_560


def profile_view_basic(state: State, actor: Actor) -> dict[str, Any]:
    """Return an account beside a post (profileViewBasic)."""
    record = state.profile_record(actor.id)
    return present(
        did=actor.did,
        handle=actor.handle or INVALID_HANDLE,
        displayName=_display_name(state, actor),
        pronouns=text_of(record.value, "pronouns") if record else None,
        avatar=image_url(state, actor, actor.avatar, "avatar"),
        associated=present(
            labeler=actor.labeler or None,
            chat=_chat(state, actor),
            activitySubscription={
                # Clients read an absent value as "none"; the lexicon's default is sent.
                "allowSubscriptions": allowed_subscribers(state, actor.id)
            },
            germ=_germ(state, actor),
        ),
        viewer=_viewer_state(state, actor),
        labels=_labels(state, actor),
        createdAt=datetime_text(actor.created_at) if actor.created_at else None,
        verification=verification_state(state, actor),
        status=status_view(state, actor),
    )


def profile_view(state: State, actor: Actor) -> dict[str, Any]:
    """Return an entry in a list of accounts (profileView)."""
    return profile_view_basic(state, actor) | present(
        description=_cut(actor.description, _MAX_DESCRIPTION, _MAX_DESCRIPTION_BYTES),
        indexedAt=datetime_text(actor.sort_at) if actor.sort_at else None,
    )


def _display_name(state: State, actor: Actor) -> str | None:
    record = state.profile_record(actor.id)
    if record is not None and record.value.get("displayName") == "":
        return ""
    return _cut(actor.display_name, _MAX_NAME, _MAX_NAME_BYTES)


def _labels(state: State, actor: Actor) -> list[dict[str, Any]]:
    address = profile_address(actor.id)
    uri = f"at://{actor.did}/{ACTOR_PROFILE}/self"
    record = state.profile_record(actor.id)
    return [
        *label_views(state, account_subject(actor.id), actor.did),
        *label_views(state, address, uri),
        *(self_labels(actor.did, uri, record) if record else ()),
    ]


def _chat(state: State, actor: Actor) -> dict[str, str] | None:
    record = state.declarations.get((actor.id, CHAT_DECLARATION))
    incoming = text_of(record.value, "allowIncoming") if record else None
    if record is None or incoming is None:
        return None
    return present(
        allowIncoming=incoming,
        allowGroupInvites=text_of(record.value, "allowGroupInvites"),
    )


def _germ(state: State, actor: Actor) -> Any | None:
    record = state.declarations.get((actor.id, GERM_DECLARATION))
    return part_of(record.value, "messageMe", MESSAGE_ME) if record else None


def _viewer_state(state: State, actor: Actor) -> dict[str, Any] | None:
    viewer = state.session.viewer
    if viewer is None:
        return None
    # A follow of oneself does not count.
    own_profile = actor.id == viewer.actor
    found = None if own_profile else state.relations.get(actor.id)
    relation = found or Relation()
    blocks = block_state(state, actor.id)
    held = blocking_list(state, actor.id)

    def own(did: str, rkey: int | None) -> str | None:
        # A follow across a block has no effect, and is not shown.
        if blocks["blockedBy"] or "blocking" in blocks:
            return None
        return record_uri(state, did, GRAPH_FOLLOW, rkey)

    muting = state.muting_lists.get(actor.id)
    mute = FULL_MUTE if muting else state.session.private.mute_of(actor.did)
    return present(
        muted=mute is not None and mute.is_full,
        mutedOnlyReposts=mute is not None and mute.only_reposts,
        mutedOnlyQuoteposts=mute is not None and mute.only_quotes,
        mutedByList=list_view_basic(state, muting) if muting in state.named else None,
        **blocks,
        blockingByList=list_view_basic(state, held) if held else None,
        following=own(viewer.did, relation.following),
        followedBy=own(actor.did, relation.followed_by),
        activitySubscription=_own_subscription(state, actor),
    )


def _own_subscription(state: State, actor: Actor) -> dict[str, bool] | None:
    """Return the viewer's subscription to an account that still allows it."""
    held = state.session.private.subscription(actor.did)
    if held is None or not may_subscribe(state, actor.id):
        return None
    return {"post": held.post, "reply": held.reply}


def _cut(text: str | None, graphemes: int, size: int) -> str | None:
    return cut_text(text, graphemes=graphemes, size=size) or None if text else None
