"""The order of replies in a flat thread.

First come the posts that continue the thread of its author, then other ones of the
author, of the viewer, and of accounts that the viewer follows.
"""

from __future__ import annotations

from math import log
from typing import Final

from appview.hydration.state import State
from appview.skeletons.flat_thread import OLDEST, TOP
from storage.postgres.instants import to_micros
from storage.records.addresses import Address

_ROOT_LIKE: Final = 1.45
"""Weight of a like by the author of the thread."""
_LIKES_AT_LEAST: Final = 3

Rank = tuple[float, ...]


def shown_rank(
    state: State, post: Address, root: Address | None, sort: str, *, in_thread: bool
) -> Rank:
    """Return the sort key of a reply; `in_thread` is True in the author's thread."""
    group = _group(state, post, root, in_thread=in_thread)
    if group is None:
        relation = state.relations.get(post.actor)
        group = 3 if relation and relation.following is not None else 4
    at = to_micros(state.posts[post].sort_at)
    if sort == OLDEST:
        return (group, at)
    if sort == TOP:
        return (group, -_top_value(state, post), -at)
    return (group, -at)


def hidden_rank(
    state: State, post: Address, root: Address | None, *, hidden: bool, muted: bool
) -> Rank:
    """Return the sort key of one of the other replies: hidden and muted ones last."""
    group = _group(state, post, root, in_thread=False)
    if group is None:
        group = 5 if muted else 4 if hidden else 3
    return (group, -to_micros(state.posts[post].sort_at))


def _group(
    state: State, post: Address, root: Address | None, *, in_thread: bool
) -> int | None:
    if in_thread:
        return 0
    if root is not None and post.actor == root.actor:
        return 1
    return 2 if post.actor == state.session.viewer_actor else None


def _top_value(state: State, post: Address) -> float:
    likes = log(_LIKES_AT_LEAST + state.posts[post].likes)
    return likes * (_ROOT_LIKE if post in state.thread.root_likes else 1.0)
