"""Posts, entries of feeds, threads."""

from __future__ import annotations

from typing import Any

from appview.hydration.records import Post
from appview.hydration.state import State
from appview.views.common import (
    datetime_text,
    label_views,
    present,
    rkey_text,
    self_labels,
)
from appview.views.embed import embed_view
from appview.views.profile import profile_view_basic
from feeds.skeleton import SkeletonItem
from protocol.json_form import to_json
from storage.collections import FEED_LIKE, FEED_REPOST
from storage.documents import Address

DEFS = "app.bsky.feed.defs"
POST_VIEW = f"{DEFS}#postView"
NOT_FOUND_POST = f"{DEFS}#notFoundPost"
BLOCKED_POST = f"{DEFS}#blockedPost"
REASON_REPOST = f"{DEFS}#reasonRepost"
THREAD_VIEW_POST = f"{DEFS}#threadViewPost"


def post_view(state: State, address: Address) -> dict[str, Any]:
    """One loaded post."""
    post, actor = state.posts[address], state.actors[address.actor]
    value, uri = post.record.value, state.uris[address]
    return present(
        uri=uri,
        cid=post.record.cid,
        author=profile_view_basic(state, actor),
        record=to_json(value),
        embed=embed_view(state, actor, value),
        replyCount=post.replies,
        repostCount=post.reposts,
        likeCount=post.likes,
        quoteCount=post.quotes,
        indexedAt=datetime_text(post.sort_at),
        viewer=_viewer_state(state, address),
        labels=[
            *label_views(state, address, uri),
            *self_labels(actor.did, uri, post.record),
        ],
    )


def feed_view_post(state: State, item: SkeletonItem) -> dict[str, Any]:
    """A feed entry: the post, what it answers, and who reposted it."""
    return present(
        post=post_view(state, item.post),
        reply=_reply(state, state.posts[item.post]),
        reason=_reason(state, item.repost) if item.repost else None,
    )


def post_or_gap(state: State, address: Address, uri: str) -> dict[str, Any]:
    """A post with its `$type`, or what stands in its place."""
    gap = _gap(state, address, uri)
    return gap or {"$type": POST_VIEW, **post_view(state, address)}


def thread_view(
    state: State,
    address: Address,
    uri: str,
    replies: dict[Address, list[Address]],
    *,
    parent: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A post with all loaded replies below it.

    Made without recursion: a thread may be deeper than Python's stack.
    """
    order = [address]
    for each in order:
        order += replies.get(each, ())
    views: dict[Address, dict[str, Any]] = {}
    for each in reversed(order):
        gap = _gap(state, each, uri if each == address else "")
        if gap is not None:
            views[each] = gap
            continue
        below = [views[r] for r in replies.get(each, ()) if "post" in views[r]]
        views[each] = {
            "$type": THREAD_VIEW_POST,
            "post": post_view(state, each),
            "replies": below,
        }
    view = views[address]
    if parent is not None and "post" in view:
        view["parent"] = parent
    return view


def _gap(state: State, address: Address, uri: str) -> dict[str, Any] | None:
    uri = state.uris.get(address, uri)
    if (
        address not in state.posts
        or state.is_hidden(address.actor)
        or state.is_redacted(address)
    ):
        return {"$type": NOT_FOUND_POST, "uri": uri, "notFound": True}
    if state.is_blocked(address.actor):
        return {
            "$type": BLOCKED_POST,
            "uri": uri,
            "blocked": True,
            "author": {"did": state.actors[address.actor].did},
        }
    return None


def _reply(state: State, post: Post) -> dict[str, Any] | None:
    if post.parent is None or post.root is None:
        return None
    named = state.uris
    if post.parent not in named or post.root not in named:
        return None
    parent = post_or_gap(state, post.parent, named[post.parent])
    above = state.posts[post.parent].parent if "record" in parent else None
    author = state.actors.get(above.actor) if above else None
    return present(
        root=post_or_gap(state, post.root, named[post.root]),
        parent=parent,
        grandparentAuthor=profile_view_basic(state, author)
        if author and not state.is_hidden(author.id)
        else None,
    )


def _reason(state: State, address: Address) -> dict[str, Any] | None:
    actor, repost = state.actors.get(address.actor), state.reposts.get(address)
    if actor is None or repost is None:
        return None
    return {
        "$type": REASON_REPOST,
        "by": profile_view_basic(state, actor),
        "uri": state.uris[address],
        "cid": repost.cid,
        "indexedAt": datetime_text(repost.sort_at),
    }


def _viewer_state(state: State, address: Address) -> dict[str, Any] | None:
    viewer = state.session.viewer
    if viewer is None:
        return None
    reaction = state.reactions.get(address)

    def own(collection: str, rkey: int | None) -> str | None:
        if rkey is None:
            return None
        return f"at://{viewer.did}/{collection}/{rkey_text(state, rkey)}"

    return present(
        like=own(FEED_LIKE, reaction.like if reaction else None),
        repost=own(FEED_REPOST, reaction.repost if reaction else None),
        threadMuted=False,
        replyDisabled=False,
        embeddingDisabled=False,
    )
