"""app.bsky.unspecced.getPostThreadOtherV2: replies that are hidden, muted, or marks."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.pipeline import Pipeline
from appview.skeletons.flat_thread import FlatThread, find_other_replies
from appview.views.flat_threads.thread_items import other_items


def _load(state: State, thread: FlatThread) -> None:
    if thread.post is not None:
        state.load_posts([thread.post])
        state.load_posts(thread.all_posts())


METHOD: Final[Pipeline[FlatThread]] = Pipeline(
    skeleton=find_other_replies,
    hydrate=_load,
    rules=lambda state, thread: thread,
    present=lambda state, thread, _: {"thread": other_items(state, thread)},
)
