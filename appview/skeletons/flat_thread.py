"""The posts of a flat thread: as the replies of a post are ranked and trimmed later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from appview.hydration.records import POST
from appview.pipeline import Params
from appview.session import Session
from appview.skeletons.own_thread import find_own_thread
from appview.skeletons.thread import (
    MAX_REPLIES_A_POST,
    Choice,
    find_parents,
    find_post,
    find_replies,
)
from storage.records.addresses import Address

MAX_ABOVE: Final = 50
MAX_ANCHOR_REPLIES: Final = 500
"""Replies of the requested post that are read."""
_SPARE: Final = 3
"""Replies of another post that are read for each one that may be shown."""
TOP: Final = "top"
OLDEST: Final = "oldest"


@dataclass(frozen=True, slots=True)
class FlatThread:
    """A post with its parents from below, and replies by parent.

    Posts at the depth limit have no entry in `replies`. `own` is the thread that the
    author of the root continues, from the root.
    """

    uri: str
    post: Address | None
    root: Address | None = None
    parents: Sequence[Address] = ()
    replies: Mapping[Address, Sequence[Address]] = field(default_factory=dict)
    own: Sequence[Address] = ()

    def all_posts(self) -> list[Address]:
        """Return the posts of the thread but its anchor."""
        below = [reply for replies in self.replies.values() for reply in replies]
        return [*self.parents, *below]


def find_flat_thread(session: Session, params: Params) -> FlatThread:
    """Return the thread of getPostThreadV2."""
    found = _find_anchor(session, params)
    if found.post is None or found.root is None:
        return found
    parents = find_parents(session, found.post, MAX_ABOVE) if params["above"] else []
    own = find_own_thread(session.conn, found.root)
    choice = Choice(
        first=MAX_ANCHOR_REPLIES,
        deeper=min(_SPARE * params["branchingFactor"], MAX_REPLIES_A_POST),
        oldest=params["sort"] == OLDEST,
        most_liked=params["sort"] == TOP,
    )
    replies = find_replies(
        session,
        found.post,
        params["below"],
        parents,
        choice,
        dict(pairwise(own)),
    )
    return FlatThread(found.uri, found.post, found.root, parents, replies, own)


def find_other_replies(session: Session, params: Params) -> FlatThread:
    """Return the thread of getPostThreadOtherV2: replies of the post itself."""
    found = _find_anchor(session, params)
    if found.post is None:
        return found
    choice = Choice(first=MAX_ANCHOR_REPLIES)
    replies = find_replies(session, found.post, 1, choice=choice)
    return FlatThread(found.uri, found.post, found.root, replies=replies)


def _find_anchor(session: Session, params: Params) -> FlatThread:
    uri = params["anchor"]
    post = find_post(session, uri)
    if post is None or post.collection != POST:
        return FlatThread(uri, None)
    row = session.conn.execute(
        "SELECT root_actor, root_rkey FROM post WHERE actor = %s AND rkey = %s",
        (post.actor, post.rkey),
    ).fetchone()
    if row is None:
        return FlatThread(uri, None)
    root = post if row[0] is None else Address(row[0], POST, row[1])
    return FlatThread(uri, post, root)
