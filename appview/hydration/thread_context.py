"""Facts about the posts of one thread, beside the posts themselves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appview.hydration.records import POST, load_reactions
from feeds.account_merge import followed_accounts
from storage.collections import LIKE_SUBJECT
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import partition_of

if TYPE_CHECKING:
    from appview.hydration.state import State

MAX_KNOWN_LIKERS: Final = 3
"""Known likers that are shown by name."""


@dataclass(frozen=True, slots=True)
class KnownLikers:
    """Accounts that the viewer follows and that like a post, the latest first."""

    count: int
    actors: Sequence[int]


@dataclass(slots=True)
class ThreadContext:
    """Likes by the author of a thread, as record keys, and known likers of posts."""

    root_likes: dict[Address, int] = field(default_factory=dict)
    known_likers: dict[Address, KnownLikers] = field(default_factory=dict)


def load_root_likes(state: State, root: Address, posts: Collection[Address]) -> None:
    """Load the likes of these posts by the author of their thread."""
    found = load_reactions(state.session.conn, root.actor, posts)
    likes = {a: r.like for a, r in found.items() if r.like is not None}
    state.thread.root_likes |= likes
    state.name_rkeys(likes.values())


def load_known_likers(state: State, post: Address) -> None:
    """Load the accounts that the viewer follows and that like a loaded post."""
    viewer = state.session.viewer_actor
    found = state.posts.get(post)
    if viewer is None or found is None or not found.likes:
        return
    likers = _find_likers(state.session.conn, viewer, post)
    if likers:
        newest = likers[:MAX_KNOWN_LIKERS]
        state.thread.known_likers[post] = KnownLikers(len(likers), newest)
        state.load_actors(newest)


def _find_likers(conn: Conn, viewer: int, post: Address) -> list[int]:
    followed = followed_accounts(conn, viewer)
    # By the index of likes by subject and account: one lookup for each account.
    rows = conn.execute(
        f"""
        SELECT actor FROM {partition_of(LIKE_SUBJECT)}
        WHERE path = %s AND target_rkey = %s AND target_actor = %s
          AND target_collection = %s AND actor = ANY(%s)
        ORDER BY sort_at DESC, rkey DESC
        """,
        (LIKE_SUBJECT, post.rkey, post.actor, POST, followed),
    )
    return [row[0] for row in rows]
