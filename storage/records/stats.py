"""Counts kept beside their rows: exact changes, applied in bulk.

A batch adds up its changes first. Rows are written in the order of their keys, so that
two batches cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from storage.change_log import COUNTS, is_followed, log_addresses
from storage.collections import (
    ACTOR_PROFILE,
    COLLECTION_IDS,
    FEED_POST,
    NO_COLLECTION,
    NO_RKEY,
)
from storage.postgres.arrays import int_array, int_columns
from storage.postgres.copy import copy_rows
from storage.postgres.pool import Conn

_POST: Final = COLLECTION_IDS[FEED_POST]
_LOGGED_AT_ONCE: Final = 20_000

LIKES: Final = 0
REPOSTS: Final = 1
REPLIES: Final = 2
QUOTES: Final = 3
DELETIONS: Final = 4
"""Number of times that the post itself was deleted."""
_POST_COLUMNS: Final = ("likes", "reposts", "replies", "quotes", "deletions")

FOLLOWERS: Final = 0
FOLLOWS: Final = 1
POSTS: Final = 2
LISTS: Final = 3
FEED_GENERATORS: Final = 4
STARTER_PACKS: Final = 5
SUBJECT_LIKES: Final = 0
ITEMS: Final = 1
"""Members of a list, an account as often as its list names it."""
_SUBJECT_COLUMNS: Final = ("likes", "items")

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
    """Changes of counts made by a batch; negative for removals.

    posts: (rkey, actor) -> changes in the order of LIKES … DELETIONS; subjects: (actor,
    collection, rkey) -> changes of other records, SUBJECT_LIKES and ITEMS; actors:
    actor -> changes in the order of FOLLOWERS … STARTER_PACKS.
    """

    posts: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    subjects: dict[tuple[int, int, int], list[int]] = field(default_factory=dict)
    actors: dict[int, list[int]] = field(default_factory=dict)

    def add_post(self, rkey: int, actor: int, count: int, change: int) -> None:
        """Change a count, LIKES … DELETIONS, of a post."""
        key = (rkey, actor)
        changes = self.posts.get(key)
        if changes is None:
            changes = self.posts[key] = [0, 0, 0, 0, 0]
        changes[count] += change

    def add_subject(
        self,
        actor: int,
        collection: int,
        rkey: int,
        change: int,
        count: int = SUBJECT_LIKES,
    ) -> None:
        """Change a count, SUBJECT_LIKES or ITEMS, of another record than a post."""
        key = (actor, collection, rkey)
        changes = self.subjects.get(key)
        if changes is None:
            changes = self.subjects[key] = [0, 0]
        changes[count] += change

    def add_actor(self, actor: int, count: int, change: int) -> None:
        """Change a count, FOLLOWERS … STARTER_PACKS, of an account."""
        changes = self.actors.get(actor)
        if changes is None:
            changes = self.actors[actor] = [0, 0, 0, 0, 0, 0]
        changes[count] += change

    def merge(self, other: StatsChange) -> None:
        """Add all changes of `other`, which must not be used afterwards."""
        for key, changes in other.posts.items():
            if self.posts.setdefault(key, changes) is not changes:
                for count, change in enumerate(changes):
                    self.posts[key][count] += change
        for subject, changes in other.subjects.items():
            if self.subjects.setdefault(subject, changes) is not changes:
                for count, change in enumerate(changes):
                    self.subjects[subject][count] += change
        for number, changes in other.actors.items():
            if self.actors.setdefault(number, changes) is not changes:
                for count, change in enumerate(changes):
                    self.actors[number][count] += change


TIERS: Final = tuple(4**power for power in range(1, 12))
"""Scores at which a record is indexed anew: tier 2 begins at the first."""


_BOUNDS: Final = int_array(TIERS)


def tiers_of(score: int) -> list[int]:
    """Return the tiers that a score has reached, lowest first."""
    return [tier for tier, least in enumerate(TIERS, 2) if score >= least]


@dataclass(frozen=True, slots=True)
class PostStats:
    likes: int = 0
    reposts: int = 0
    replies: int = 0
    quotes: int = 0

    @property
    def score(self) -> int:
        """Return the weight of all reactions."""
        return self.likes + 2 * self.reposts + self.replies + 2 * self.quotes


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    keys: tuple[str, ...]
    key_types: tuple[str, ...]
    counts: tuple[str, ...]
    score: str = ""
    """SQL of the score of a row, for records that are found by it."""
    outbox: str = ""
    """SQL of the address of a row in the outbox."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.keys, *self.counts)

    @property
    def types(self) -> tuple[str, ...]:
        return (*self.key_types, *("int4",) * len(self.counts))

    def address(self, row: Sequence[int]) -> tuple[int, int, int]:
        """Return the record or account that a row, or the keys of one, is about."""
        if self.name == "post_stats":
            return row[1], _POST, row[0]
        if self.name == "subject_stats":
            return row[0], row[1], row[2]
        return row[0], NO_COLLECTION, NO_RKEY


_POSTS: Final = _Table(
    "post_stats",
    ("rkey", "actor"),
    ("int8", "int4"),
    _POST_COLUMNS,
    "{0}.likes + 2 * {0}.reposts + {0}.replies + 2 * {0}.quotes",
    f"actor, {COLLECTION_IDS[FEED_POST]}, rkey",
)
_SUBJECTS: Final = _Table(
    "subject_stats",
    ("actor", "collection", "rkey"),
    ("int4", "int4", "int8"),
    _SUBJECT_COLUMNS,
    "{0}.likes",
    "actor, collection, rkey",
)
_ACTORS: Final = _Table(
    "actor_stats",
    ("actor",),
    ("int4",),
    _ACTOR_COLUMNS,
    "{0}.followers",
    f"actor, {COLLECTION_IDS[ACTOR_PROFILE]}, 0",
)
_TABLES: Final = (_POSTS, _SUBJECTS, _ACTORS)


def _rows(change: StatsChange, table: _Table) -> list[tuple[int, ...]]:
    """Return the nonzero changes of one table, in the order of their keys."""
    rows: list[tuple[int, ...]]
    if table is _POSTS:
        rows = [(*key, *values) for key, values in change.posts.items()]
    elif table is _SUBJECTS:
        rows = [(*key, *values) for key, values in change.subjects.items()]
    else:
        rows = [(key, *values) for key, values in change.actors.items()]
    width = len(table.keys)
    return sorted(row for row in rows if any(row[width:]))


def apply_stats(conn: Conn, change: StatsChange) -> None:
    """Add the changes of a batch to the counts, in at most three statements."""
    for table in _TABLES:
        rows = _rows(change, table)
        if rows:
            arrays = ", ".join(f"%s::{name}[]" for name in table.types)
            _upsert(
                conn,
                table,
                f"SELECT * FROM unnest({arrays})",
                int_columns(rows, len(table.types)),
            )
            log_addresses(conn, (table.address(row) for row in rows), COUNTS)


def _upsert(conn: Conn, table: _Table, query: str, values: Sequence[str]) -> None:
    sums = ", ".join(
        f"{name} = {table.name}.{name} + excluded.{name}" for name in table.counts
    )
    keys, columns = ", ".join(table.keys), ", ".join(table.columns)
    after, change = table.score.format("w"), table.score.format("x")
    # A record that reaches another tier is indexed anew.
    conn.execute(
        f"""
        WITH x ({columns}) AS MATERIALIZED ({query}), w AS (
            INSERT INTO {table.name} ({columns}) SELECT {columns} FROM x
            ON CONFLICT ({keys}) DO UPDATE SET {sums}
            RETURNING {columns}
        )
        INSERT INTO search_outbox (actor, collection, rkey)
        SELECT {table.outbox} FROM w JOIN x USING ({keys})
        WHERE width_bucket({after}, '{_BOUNDS}'::int4[])
            <> width_bucket({after} - ({change}), '{_BOUNDS}'::int4[])
        """,
        values,
    )


class StatsPile:
    """Changes of a long transaction, moved to temporary tables when they grow.

    Only `apply` at the end touches the counts: rows of popular posts must not be locked
    while a repo streams in.
    """

    def __init__(self, conn: Conn, most: int = 100_000) -> None:
        self._conn = conn
        self._most = most
        self._change = StatsChange()
        self._piled = False

    def add(self, changes: StatsChange) -> None:
        self._change.merge(changes)
        change = self._change
        counted = len(change.posts) + len(change.subjects) + len(change.actors)
        if counted > self._most:
            self._pile()

    def apply(self) -> None:
        """Add everything to the counts."""
        if not self._piled:
            apply_stats(self._conn, self._change)
            return
        self._pile()
        for table in _TABLES:
            keys = ", ".join(table.keys)
            sums = ", ".join(f"sum({name})::int4" for name in table.counts)
            query = (
                f"SELECT {keys}, {sums} FROM pile_{table.name} "
                f"GROUP BY {keys} ORDER BY {keys}"
            )
            _upsert(self._conn, table, query, ())
            if is_followed(self._conn):
                self._log(table)

    def _log(self, table: _Table) -> None:
        name, keys = f"pile_{table.name}", ", ".join(table.keys)
        with self._conn.cursor(name=name, binary=True) as cursor:
            cursor.execute(f"SELECT DISTINCT {keys} FROM {name}")
            while rows := cursor.fetchmany(_LOGGED_AT_ONCE):
                log_addresses(self._conn, map(table.address, rows), COUNTS)

    def _pile(self) -> None:
        for table in _TABLES:
            if not self._piled:
                columns = ", ".join(
                    f"{name} {kind}"
                    for name, kind in zip(table.columns, table.types, strict=True)
                )
                self._conn.execute(
                    f"CREATE TEMPORARY TABLE pile_{table.name} ({columns}) "
                    "ON COMMIT DROP"
                )
            copy_rows(
                self._conn,
                f"pile_{table.name}",
                table.columns,
                table.types,
                _rows(self._change, table),
            )
        self._piled = True
        self._change = StatsChange()


def fetch_post_stats(
    conn: Conn, posts: Sequence[tuple[int, int]]
) -> Mapping[tuple[int, int], PostStats]:
    """Return (actor, rkey) -> counts of posts that have any."""
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


def fetch_subject_likes(
    conn: Conn, subjects: Sequence[tuple[int, int, int]]
) -> Mapping[tuple[int, int, int], int]:
    """Return (actor, collection, rkey) -> likes of other records that have any."""
    if not subjects:
        return {}
    rows = conn.execute(
        """
        SELECT s.actor, s.collection, s.rkey, likes
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS p (actor, collection, rkey)
        JOIN subject_stats s ON s.actor = p.actor AND s.collection = p.collection
          AND s.rkey = p.rkey
        """,
        int_columns(subjects, 3),
    )
    return {(row[0], row[1], row[2]): row[3] for row in rows}
