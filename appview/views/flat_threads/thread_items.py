"""Items of flat threads: the posts above one, the post, and ranked replies below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from appview.hydration.state import State
from appview.rule_checks import HOLDS, Case, Condition
from appview.rules import Effect, Place, decide_record
from appview.skeletons.flat_thread import (
    MAX_ANCHOR_REPLIES,
    FlatThread,
)
from appview.views.blocks import blocked_author
from appview.views.common import present
from appview.views.flat_threads.reply_order import hidden_rank, shown_rank
from appview.views.post import post_view
from appview.views.thread import root_of
from storage.records.addresses import Address

DEFS: Final = "app.bsky.unspecced.defs"
ITEM_POST: Final = f"{DEFS}#threadItemPost"
ITEM_WITHHELD: Final = f"{DEFS}#threadItemNoUnauthenticated"
ITEM_NOT_FOUND: Final = f"{DEFS}#threadItemNotFound"
ITEM_BLOCKED: Final = f"{DEFS}#threadItemBlocked"

Item = dict[str, Any]
Tree = Mapping[Address, Sequence[Address]]


class ThreadItems:
    """The items of one flat thread whose posts are loaded."""

    def __init__(
        self, state: State, thread: FlatThread, sort: str, branching: int
    ) -> None:
        self.has_other_replies = False
        self._state = state
        self._thread = thread
        self._sort = sort
        self._branching = branching
        self._places = {post: n for n, post in enumerate(thread.own, 1)}

    def make(self) -> list[Item]:
        """Return the items in order; `has_other_replies` is known then."""
        state, anchor = self._state, self._thread.post
        effect: Effect | None = Effect.NOT_FOUND
        if anchor is not None:
            effect = decide_record(state, Place.ITEM_ANCHOR, anchor)
        if anchor is None or effect is Effect.NOT_FOUND:
            return [_gap(state, Effect.NOT_FOUND, anchor, self._thread.uri, 0)]
        if effect is Effect.BLOCKED:
            return [_gap(state, effect, anchor, state.uris[anchor], 0)]
        parents: list[Item] = []
        is_own: bool | None = None
        loose = state.restrictions.violates(anchor)
        if not loose:
            parents, is_own = self._parents(anchor)
        is_own = self._continues(anchor, is_own)
        if effect is Effect.WITHHOLD:
            return [*parents, _gap(state, effect, anchor, state.uris[anchor], 0)]
        children = {} if loose else self._children(anchor)
        return [*parents, *self._below(anchor, is_own, children)]

    def _continues(self, post: Address, is_own: bool | None) -> bool:
        """Return True if the author of the root continues its thread with a post.

        `is_own` is the answer for the post above it, None if that is not shown.
        """
        root = self._thread.root
        return is_own is not False and root is not None and post.actor == root.actor

    def _parents(self, anchor: Address) -> tuple[list[Item], bool | None]:
        """Return the items above the anchor from the top, and `is_own` of the last."""
        state, child = self._state, anchor
        shown: list[tuple[Address, Effect | None]] = []
        for above in self._thread.parents:
            if above not in state.uris:
                break
            effect = decide_record(state, Place.ITEM_PARENT, above, beside=child.actor)
            if effect is not Effect.NOT_FOUND and self._is_outside(above):
                break
            shown.append((above, effect))
            if effect in (Effect.NOT_FOUND, Effect.BLOCKED):
                break
            child = above
        items: list[Item] = []
        is_own: bool | None = None
        for depth in range(-len(shown), 0):
            post, effect = shown[-depth - 1]
            if effect in (Effect.NOT_FOUND, Effect.BLOCKED):
                is_own = False
            else:
                is_own = self._continues(post, is_own)
            if effect is not None:
                items.append(_gap(state, effect, post, state.uris[post], depth))
                continue
            more = not items and state.posts[post].parent is not None
            items.append(self._item(post, depth, is_own, more_parents=more))
        return items, is_own

    def _is_outside(self, post: Address) -> bool:
        """Return True for a post that names another root: of another thread."""
        return root_of(self._state, post) != self._thread.root

    def _children(self, anchor: Address) -> Tree:
        """Return the replies to show, by parent, in order and trimmed."""
        state, thread = self._state, self._thread
        children: dict[Address, list[Address]] = {}
        level = [anchor]
        while level:
            below = []
            for parent in level:
                shown = []
                for reply in thread.replies.get(parent, ()):
                    effect = decide_record(
                        state, Place.ITEM_REPLY, reply, beside=parent.actor
                    )
                    if effect is Effect.HIDE or self._is_outside(reply):
                        continue
                    if effect is None:
                        shown.append(reply)
                    elif parent == anchor:
                        self.has_other_replies = True
                shown.sort(key=self._rank)
                kept = shown if parent == anchor else shown[: self._branching]
                children[parent] = kept
                below += kept
            level = below
        return children

    def _rank(self, post: Address) -> tuple[float, ...]:
        return shown_rank(
            self._state,
            post,
            self._thread.root,
            self._sort,
            in_thread=post in self._places,
        )

    def _below(self, anchor: Address, is_own: bool, children: Tree) -> list[Item]:
        """Return the anchor and its replies, each followed by its own ones."""
        items: list[Item] = []
        waiting = [(anchor, 0, is_own)]
        while waiting:
            post, depth, owned = waiting.pop()
            allowed = self._branching if post in self._thread.replies else 0
            if depth == 0:
                allowed = MAX_ANCHOR_REPLIES
            items.append(self._item(post, depth, owned, allowed=allowed))
            waiting += [
                (reply, depth + 1, self._continues(reply, owned))
                for reply in reversed(children.get(post, ()))
            ]
        return items

    def _item(
        self,
        post: Address,
        depth: int,
        is_own: bool,
        *,
        more_parents: bool = False,
        allowed: int | None = None,
    ) -> Item:
        """Return the item of a post with `allowed` replies."""
        view = post_view(self._state, post)
        more = 0 if allowed is None else max(0, view["replyCount"] - allowed)
        place = self._places.get(post)
        return _item(
            self._state,
            post,
            depth,
            present(
                **{"$type": ITEM_POST},
                post=view,
                moreParents=more_parents,
                moreReplies=more,
                opThread=place is not None if self._places else is_own,
                opThreadPostIndex=place,
                opThreadPostCount=len(self._places) if place else None,
                hiddenByThreadgate=False,
                mutedByViewer=False,
            ),
        )


def other_items(state: State, thread: FlatThread) -> list[Item]:
    """Return the other replies of a loaded post: hidden, muted, or pushpins."""
    anchor = thread.post
    if anchor is None:
        return []
    if decide_record(state, Place.ITEM_ANCHOR, anchor) in (
        Effect.NOT_FOUND,
        Effect.BLOCKED,
    ):
        return []
    others = [
        reply
        for reply in thread.replies.get(anchor, ())
        if root_of(state, reply) == thread.root
        and decide_record(state, Place.ITEM_REPLY, reply, beside=anchor.actor)
        is Effect.OTHER
    ]
    found = []
    for reply in others:
        case = Case(reply.actor, reply)
        hidden = HOLDS[Condition.HIDDEN_BY_GATE](state, case)
        muted = HOLDS[Condition.MUTED_ACCOUNT](state, case)
        rank = hidden_rank(state, reply, thread.root, hidden=hidden, muted=muted)
        found.append((rank, reply, hidden, muted))
    found.sort(key=lambda each: each[0])
    return [
        _item(
            state,
            reply,
            1,
            {
                "$type": ITEM_POST,
                "post": post_view(state, reply),
                "moreParents": False,
                "moreReplies": 0,
                "opThread": False,
                "hiddenByThreadgate": hidden,
                "mutedByViewer": muted,
            },
        )
        for _, reply, hidden, muted in found
    ]


def _item(state: State, post: Address, depth: int, value: dict[str, Any]) -> Item:
    return {"uri": state.uris[post], "depth": depth, "value": value}


def _gap(
    state: State, effect: Effect, post: Address | None, uri: str, depth: int
) -> Item:
    """Return the item of a post that is not shown."""
    value: dict[str, Any] = {"$type": ITEM_NOT_FOUND}
    if effect is Effect.WITHHOLD:
        value = {"$type": ITEM_WITHHELD}
    elif effect is Effect.BLOCKED and post is not None:
        did = uri.removeprefix("at://").split("/", 1)[0]
        author = blocked_author(state, post.actor, did)
        value = {"$type": ITEM_BLOCKED, "author": author}
    return {"uri": uri, "depth": depth, "value": value}
