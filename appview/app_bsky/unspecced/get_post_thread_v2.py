"""app.bsky.unspecced.getPostThreadV2."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.hydration.thread_context import load_known_likers, load_root_likes
from appview.pipeline import Params, Pipeline
from appview.skeletons.flat_thread import FlatThread, find_flat_thread
from appview.views.flat_threads.thread_items import ThreadItems
from appview.views.post import threadgate_view


def _load(state: State, thread: FlatThread) -> None:
    if thread.post is None or thread.root is None:
        return
    posts = thread.all_posts()
    # First, before others use up the allowances of posts and profiles.
    state.load_posts([thread.post])
    with state.together():
        state.load_posts(posts)
        state.name(posts)
    load_root_likes(state, thread.root, posts)
    load_known_likers(state, thread.post)


def _present(state: State, thread: FlatThread, params: Params) -> dict[str, Any]:
    items = ThreadItems(state, thread, params["sort"], params["branchingFactor"])
    answer = {"thread": items.make(), "hasOtherReplies": items.has_other_replies}
    if thread.root is not None and thread.post in state.posts:
        gate = threadgate_view(state, thread.root)
        if gate is not None:
            answer["threadgate"] = gate
    return answer


METHOD: Final[Pipeline[FlatThread]] = Pipeline(
    skeleton=find_flat_thread,
    hydrate=_load,
    rules=lambda state, thread: thread,
    present=_present,
)
