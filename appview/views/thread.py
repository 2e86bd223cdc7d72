"""Threads: a post with its parents and the replies below it."""

from __future__ import annotations

from typing import Any

from appview.hydration.state import State
from appview.rules import Effect, Place, decide_record
from appview.views.common import present, record_uri
from appview.views.post import DEFS, gap_view, post_view
from storage.collections import FEED_LIKE
from storage.records.addresses import Address

THREAD_VIEW_POST = f"{DEFS}#threadViewPost"


def thread_view(
    state: State,
    address: Address,
    uri: str,
    replies: dict[Address, list[Address]],
    *,
    parent: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a post with its loaded replies, or its placeholder.

    Posts without an entry in `replies` have no `replies` in the view. No recursion: a
    thread may be deeper than Python's stack.
    """
    effect = decide_record(state, Place.ANCHOR, address)
    if effect is not None:
        return gap_view(state, effect, address, uri)
    if state.restrictions.violates(address):
        return _thread_post(state, address)
    root = root_of(state, address)
    order = [(address, address.actor)]
    for each, _ in order:
        order += [(reply, each.actor) for reply in replies.get(each, ())]
    views: dict[Address, dict[str, Any]] = {}
    for each, above in reversed(order):
        if each != address:
            if root_of(state, each) != root:
                continue  # of another thread: a reply may name a wrong root
            effect = decide_record(state, Place.REPLY, each, beside=above)
            if effect is not None:
                if effect is not Effect.HIDE and each in state.uris:
                    views[each] = gap_view(state, effect, each, "")
                continue
        views[each] = _thread_post(state, each)
        if each in replies:
            below = [views[reply] for reply in replies[each] if reply in views]
            views[each]["replies"] = below
    view = views[address]
    if parent is not None:
        view["parent"] = parent
    return view


def parents_view(
    state: State, address: Address, parents: list[Address]
) -> dict[str, Any] | None:
    """Return the posts above one as a chain of `parent`s.

    A placeholder ends it, and so does a post of another thread: a reply may name a
    wrong root.
    """
    root = root_of(state, address)
    below = [address, *parents]
    view: dict[str, Any] | None = None
    for above, child in reversed(list(zip(parents, below, strict=False))):
        uri = state.uris.get(above)
        if uri is None:
            view = None
            continue
        effect = decide_record(state, Place.PARENT, above, beside=child.actor)
        if effect is not None:
            view = gap_view(state, effect, above, uri)
            continue
        if root_of(state, above) != root:
            view = None
            continue
        post = _thread_post(state, above)
        if view is not None:
            post["parent"] = view
        view = post
    return view


def _thread_post(state: State, address: Address) -> dict[str, Any]:
    """Return a post with its context: a like by the author of the thread."""
    root = root_of(state, address)
    like = state.thread.root_likes.get(address)
    did = state.uris[root].split("/")[2] if root in state.uris else ""
    context = present(rootAuthorLike=record_uri(state, did, FEED_LIKE, like))
    post = post_view(state, address)
    return {"$type": THREAD_VIEW_POST, "post": post, "threadContext": context}


def root_of(state: State, address: Address) -> Address | None:
    """Return the root that a post names, or the post itself."""
    post = state.posts.get(address)
    return None if post is None else post.root or address
