"""Counts kept beside what they count: exact changes, applied in bulk.

A batch adds up its changes first. Rows are then written in the order of their keys,
so that two batches never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from storage.arrays import int_columns

LIKES: Final = 0
REPOSTS: Final = 1
REPLIES: Final = 2
QUOTES: Final = 3
_POST_COLUMNS: Final = ("likes", "reposts", "replies", "quotes")

FOLLOWERS: Final = 0
FOLLOWS: Final = 1
POSTS: Final = 2
LISTS: Final = 3
FEED_GENERATORS: Final = 4
STARTER_PACKS: Final = 5
_ACTOR_COLUMNS: Final = (
    "followers",
    "follows",
    "posts",
    "lists",
    "feed_generators",
    "starter_packs",
)


@dataclass(slots=True)
class StatsChange:
    """What a batch adds to the counts; negative for what it took away.

    posts: (rkey, actor) -> changes of likes, reposts, replies, quotes;
    subjects: (actor, collection, rkey) -> change of likes of what is not a post;
    actors: actor -> changes in the order of FOLLOWERS … STARTER_PACKS.
    """

    posts: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    subjects: dict[tuple[int, int, int], int] = field(default_factory=dict)
    actors: dict[int, list[int]] = field(default_factory=dict)

    def add_post(self, rkey: int, actor: int, count: int, change: int) -> None:
        """`count` is LIKES, REPOSTS, REPLIES or QUOTES."""
        key = (rkey, actor)
        changes = self.posts.get(key)
        if changes is None:
            changes = self.posts[key] = [0, 0, 0, 0]
        changes[count] += change

    def add_subject(self, actor: int, collection: int, rkey: int, change: int) -> None:
        """A like of anything but a post."""
        key = (actor, collection, rkey)
        self.subjects[key] = self.subjects.get(key, 0) + change

    def add_actor(self, actor: int, count: int, change: int) -> None:
        """`count` is FOLLOWERS … STARTER_PACKS."""
        changes = self.actors.get(actor)
        if changes is None:
            changes = self.actors[actor] = [0, 0, 0, 0, 0, 0]
        changes[count] += change

    def clear(self) -> None:
        """Forget all changes."""
        self.posts.clear()
        self.subjects.clear()
        self.actors.clear()


@dataclass(frozen=True, slots=True)
class PostStats:
    """Counts of one post."""

    likes: int = 0
    reposts: int = 0
    replies: int = 0
    quotes: int = 0


@dataclass(frozen=True, slots=True)
class ActorStats:
    """Counts of one account."""

    followers: int = 0
    follows: int = 0
    posts: int = 0
    lists: int = 0
    feed_generators: int = 0
    starter_packs: int = 0


def apply_stats(conn: psycopg.Connection[Any], change: StatsChange) -> None:
    """Add the changes of a batch to the counts: at most three statements."""
    posts = [(*key, *values) for key, values in sorted(change.posts.items())]
    _add(conn, "post_stats", ("rkey", "actor"), ("int8", "int4"), _POST_COLUMNS, posts)
    subjects = [(*key, value) for key, value in sorted(change.subjects.items())]
    _add(
        conn,
        "subject_stats",
        ("actor", "collection", "rkey"),
        ("int4", "int4", "int8"),
        ("likes",),
        subjects,
    )
    actors = [(key, *values) for key, values in sorted(change.actors.items())]
    _add(conn, "actor_stats", ("actor",), ("int4",), _ACTOR_COLUMNS, actors)


def _add(
    conn: psycopg.Connection[Any],
    table: str,
    keys: Sequence[str],
    key_types: Sequence[str],
    counts: Sequence[str],
    rows: Sequence[Sequence[int]],
) -> None:
    width = len(keys)
    rows = [row for row in rows if any(row[width:])]
    if not rows:
        return
    columns = ", ".join((*keys, *counts))
    types = (*key_types, *("int4",) * len(counts))
    arrays = ", ".join(f"%s::{name}[]" for name in types)
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in counts)
    conn.execute(
        f"INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sums}",
        int_columns(rows, len(types)),
    )


def fetch_post_stats(
    conn: psycopg.Connection[Any], posts: Sequence[tuple[int, int]]
) -> Mapping[tuple[int, int], PostStats]:
    """(actor, rkey) -> counts, of posts that have any."""
    if not posts:
        return {}
    rows = conn.execute(
        """
        SELECT s.actor, s.rkey, likes, reposts, replies, quotes
        FROM unnest(%s::int4[], %s::int8[]) AS p (actor, rkey)
        JOIN post_stats s ON s.rkey = p.rkey AND s.actor = p.actor
        """,
        int_columns(posts, 2),
    )
    return {(row[0], row[1]): PostStats(*row[2:]) for row in rows}


def fetch_actor_stats(
    conn: psycopg.Connection[Any], actors: Sequence[int]
) -> Mapping[int, ActorStats]:
    """Actor -> counts, of accounts that have any."""
    rows = conn.execute(
        f"SELECT actor, {', '.join(_ACTOR_COLUMNS)} FROM actor_stats "
        "WHERE actor = ANY(%s)",
        (list(actors),),
    )
    return {row[0]: ActorStats(*row[1:]) for row in rows}
