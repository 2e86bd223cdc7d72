"""Posts and entries of feeds."""

from __future__ import annotations

from typing import Any

from appview.hydration.records import Post, Reaction
from appview.hydration.references import PINNED_POST, reference_uri, root_uri
from appview.hydration.state import State
from appview.rule_checks import Case
from appview.rules import Effect, Place, decide, decide_record, shown_actors
from appview.views.account_list import list_view_basic
from appview.views.blocks import blocked_author
from appview.views.common import datetime_text, present, record_uri
from appview.views.embed import embed_view, post_fields
from appview.views.profile import profile_view_basic
from feeds.skeleton import SkeletonItem
from storage.collections import FEED_LIKE, FEED_POST, FEED_REPOST, FEED_THREADGATE
from storage.records.addresses import Address

DEFS = "app.bsky.feed.defs"
POST_VIEW = f"{DEFS}#postView"
NOT_FOUND_POST = f"{DEFS}#notFoundPost"
BLOCKED_POST = f"{DEFS}#blockedPost"
REASON_REPOST = f"{DEFS}#reasonRepost"
REASON_PIN = f"{DEFS}#reasonPin"


def post_view(state: State, address: Address) -> dict[str, Any]:
    """Return a loaded post."""
    post = state.posts[address]
    return present(
        **post_fields(state, address),
        record=post.record.json,
        embed=embed_view(state, post),
        viewer=_viewer_state(state, address),
        threadgate=threadgate_view(state, address) if post.root is None else None,
    )


def feed_view_post(state: State, item: SkeletonItem) -> dict[str, Any]:
    """Return a feed entry: the post, its reply reference, and the repost."""
    # A reply that its thread's gate forbids stands alone.
    loose = state.restrictions.violates(item.post)
    return present(
        post=post_view(state, item.post),
        reply=None if loose else _reply(state, state.posts[item.post]),
        reason=_reason(state, item),
    )


def threadgate_view(state: State, root: Address) -> dict[str, Any] | None:
    """Return the gate of a thread, with the lists that it names."""
    gate = state.restrictions.threadgate(root)
    if gate is None:
        return None
    lists = [state.by_uri.get(uri) for uri in gate.lists]
    return {
        "uri": state.uris[root].replace(f"/{FEED_POST}/", f"/{FEED_THREADGATE}/"),
        "cid": gate.record.cid,
        "record": gate.record.json,
        "lists": [list_view_basic(state, a) for a in lists if a in state.named],
    }


def gap_view(
    state: State, effect: Effect, address: Address, uri: str
) -> dict[str, Any]:
    """Return the placeholder of a post."""
    uri = state.uris.get(address, uri)
    if effect is Effect.BLOCKED:
        did = uri.removeprefix("at://").split("/", 1)[0]
        author = blocked_author(state, address.actor, did)
        return {"$type": BLOCKED_POST, "uri": uri, "blocked": True, "author": author}
    return {"$type": NOT_FOUND_POST, "uri": uri, "notFound": True}


def _reply(state: State, post: Post) -> dict[str, Any] | None:
    if post.parent is None or post.root is None:
        return None
    if post.parent not in state.uris or post.root not in state.uris:
        return None
    author = post.record.address.actor
    parent = _reply_ref(state, post.parent, {author})
    # The root is also blocked for the author of the parent.
    gone = parent["$type"] == NOT_FOUND_POST
    sides = {author} if gone else {author, post.parent.actor}
    return present(
        root=_reply_ref(state, post.root, sides),
        parent=parent,
        grandparentAuthor=_grandparent_author(state, post.parent)
        if parent["$type"] == POST_VIEW
        else None,
    )


def _grandparent_author(state: State, parent: Address) -> dict[str, Any] | None:
    above = state.posts[parent].parent
    if above is None or decide(state, Place.ACTOR, Case(above.actor)) is not None:
        return None
    return profile_view_basic(state, state.actors[above.actor])


def _reply_ref(state: State, address: Address, sides: set[int]) -> dict[str, Any]:
    for side in sides:
        effect = decide_record(state, Place.REPLY_REF, address, beside=side)
        if effect is not None:
            return gap_view(state, effect, address, state.uris[address])
    if not state.take_repeat(state.posts[address].record):
        return gap_view(state, Effect.NOT_FOUND, address, state.uris[address])
    return {"$type": POST_VIEW, **post_view(state, address)}


def _reason(state: State, item: SkeletonItem) -> dict[str, Any] | None:
    if item.pinned:
        return {"$type": REASON_PIN}
    repost = item.repost
    if repost is None:
        return None
    actor, found = state.actors.get(repost.actor), state.reposts.get(repost)
    if actor is None or found is None:
        return None
    return {
        "$type": REASON_REPOST,
        "by": profile_view_basic(state, actor),
        "uri": state.uris[repost],
        "cid": found.cid,
        "indexedAt": datetime_text(found.sort_at),
    }


def _viewer_state(state: State, address: Address) -> dict[str, Any] | None:
    viewer = state.session.viewer
    if viewer is None:
        return None
    reaction = state.reactions.get(address, Reaction())
    post = state.posts[address]
    may_reply = state.restrictions.may_reply(post)
    held = state.session.private
    return present(
        like=record_uri(state, viewer.did, FEED_LIKE, reaction.like),
        repost=record_uri(state, viewer.did, FEED_REPOST, reaction.repost),
        bookmarked=held.is_bookmarked(state.uris[address]),
        threadMuted=held.is_thread_muted(root_uri(post) or state.uris[address]),
        replyDisabled=None if may_reply is None else not may_reply,
        embeddingDisabled=not state.restrictions.may_quote(address),
        pinned=_is_pinned(state, address) if address.actor == viewer.actor else None,
        knownLikers=_known_likers(state, address),
    )


def _known_likers(state: State, address: Address) -> dict[str, Any] | None:
    known = state.thread.known_likers.get(address)
    if known is None:
        return None
    shown = shown_actors(state, Place.LIKE, known.actors, beside=address.actor)
    actors = [profile_view_basic(state, state.actors[actor]) for actor in shown]
    return {"count": known.count, "actors": actors}


def _is_pinned(state: State, address: Address) -> bool | None:
    profile = state.profile_record(address.actor)
    pinned = reference_uri(profile, PINNED_POST) if profile else None
    return None if pinned is None else pinned == state.uris[address]
