"""app.bsky.feed.getPostThread."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.hydration.thread_context import load_root_likes
from appview.pipeline import Params, Pipeline
from appview.rules import Effect, Place, decide_record
from appview.skeletons.thread import Thread, find_thread, post_not_found
from appview.views.post import threadgate_view
from appview.views.thread import parents_view, thread_view


def _load(state: State, thread: Thread) -> None:
    replies = [reply for below in thread.replies.values() for reply in below]
    posts = [*thread.parents, *replies]
    # First, before others use up the allowances of posts and profiles.
    state.load_posts([thread.post])
    with state.together():
        state.load_posts(posts)
        anchor = state.posts.get(thread.post)
        root = (anchor.root if anchor else None) or thread.post
        state.name([*thread.parents, root])
    load_root_likes(state, root, [thread.post, *posts])


def _present(state: State, thread: Thread, params: Params) -> dict[str, Any]:
    if decide_record(state, Place.ANCHOR, thread.post) is Effect.NOT_FOUND:
        raise post_not_found(params)
    parent = parents_view(state, thread.post, thread.parents)
    view = thread_view(state, thread.post, params["uri"], thread.replies, parent=parent)
    root = state.posts[thread.post].root or thread.post
    gate = threadgate_view(state, root)
    return {"thread": view, **({"threadgate": gate} if gate else {})}


METHOD: Final[Pipeline[Thread]] = Pipeline(
    skeleton=find_thread,
    hydrate=_load,
    rules=lambda state, thread: thread,
    present=_present,
)
