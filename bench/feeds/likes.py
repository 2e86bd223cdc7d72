"""Readers with their posts and likes of a week, generated inside the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from bench.index import Index
from bench.metric import Progress
from storage.collections import COLLECTION_IDS, FEED_POST, LIKE_SUBJECT

_POSTS_A_READER: Final = 10
_SLICES: Final = 84
"""Transactions: one for two hours of the week."""
_COMMUNITIES: Final = 20
_BLOCK: Final = 1_000
"""Posts in a row; the first ones of each are popular in one community each."""


@dataclass(frozen=True, slots=True)
class Liked:
    """Stored readers with actor ids from `first` on."""

    first: int
    readers: int
    likes: int


def fill_likes(index: Index, readers: int, likes: int, progress: Progress) -> Liked:
    """Store readers, ten posts of each, and likes, in order of time.

    Three likes of four are of posts that are popular in the reader's community. The
    index must hold a record of a post, whose value is copied.
    """
    with psycopg.connect(
        index.url, autocommit=True, cursor_factory=psycopg.ClientCursor
    ) as conn:
        conn.execute("SET synchronous_commit = off")
        conn.execute("SET work_mem = '128MB'")
        first = conn.execute(_READERS, {"readers": readers}).fetchone()
        assert first is not None
        numbers: dict[str, Any] = {
            "first": first[0],
            "readers": readers,
            "posts": readers * _POSTS_A_READER,
            "slices": _SLICES,
            "likes": likes // _SLICES,
            "communities": min(_COMMUNITIES, readers),
            "block": min(_BLOCK, readers * _POSTS_A_READER),
            "post": COLLECTION_IDS[FEED_POST],
            "path": LIKE_SUBJECT,
        }
        conn.execute(_WEEK, numbers)
        conn.execute(_POSTS, numbers)
        conn.execute(_RECORDS, numbers)
        for number in range(_SLICES):
            conn.execute(_LIKES, numbers | {"slice": number})
            progress.count("likes", (number + 1) * likes // _SLICES, likes)
        conn.execute(_STATS, numbers)
        conn.execute("SELECT brin_summarize_new_values('link_like_time_idx')")
    return Liked(first[0], readers, likes)


_READERS: Final = """
    WITH made AS (
        INSERT INTO actor (did, handle)
        SELECT 'did:plc:reader'
            || lpad(translate(a::text, '0123456789', 'abcdefghij'), 18, 'a'),
            'reader' || a || '.test'
        FROM generate_series(0, %(readers)s - 1) AS a ORDER BY a RETURNING id
    ), known AS (
        INSERT INTO repo (actor, state, rev, data, commit, synchronized_at)
        SELECT id, 'synchronized', '3ltqaaaaaaa22',
            decode(repeat('a5', 36), 'hex'), decode(repeat('5a', 220), 'hex'), now()
        FROM made
    )
    SELECT min(id) FROM made
"""
_WEEK: Final = """
    CREATE TEMPORARY TABLE week AS SELECT
        (extract(epoch FROM now()) * 1000000)::int8 - 604800000000 AS began_at,
        604800000000 / %(posts)s AS step
"""
# Post n of all is the n-th of the week.
_POST: Final = """
    {n} AS n, %(first)s + ({n}::int8 * 7919 %% %(readers)s)::int4 AS actor,
    (began_at + {n}::int8 * step) << 10 | 7 AS rkey
"""
_POSTS: Final = f"""
    INSERT INTO post (rkey, sort_at, created_at, indexed_at, actor, media, langs)
    SELECT rkey, made_at, made_at, made_at, actor, 0, '{{{{en}}}}' FROM (
        SELECT actor, rkey, to_timestamp((rkey >> 10) / 1e6) AS made_at FROM (
            SELECT {_POST} FROM week, generate_series(0, %(posts)s - 1) AS m
        ) AS made
    ) AS posts
""".format(n="m")
_RECORDS: Final = f"""
    INSERT INTO record (actor, collection, rkey, value)
    SELECT actor, %(post)s, rkey, value FROM (
        SELECT {_POST} FROM week, generate_series(0, %(posts)s - 1) AS m
    ) AS made, (
        SELECT value FROM record WHERE collection = %(post)s LIMIT 1
    ) AS some_post
""".format(n="m")
# A like is of a post of the two days before it, more often of a young one.
_LIKES: Final = f"""
    INSERT INTO link (
        rkey, target_rkey, actor, target_actor, target_collection, path, sort_at
    )
    SELECT liked_at << 10 | 9, rkey, reader, actor, %(post)s, %(path)s,
        to_timestamp(liked_at / 1e6)
    FROM (
        SELECT DISTINCT ON (reader, n) reader, liked_at, {_POST} FROM week, (
            SELECT %(first)s + account AS reader, liked_at,
                CASE WHEN random() < 0.75
                THEN least(place - place %% %(block)s + account %% %(communities)s,
                           %(posts)s - 1)
                ELSE place END AS n
            FROM (
                SELECT floor(%(readers)s * random())::int4 AS account,
                    began_at + (604800000000 * moment)::int8 AS liked_at,
                    greatest(0, least(%(posts)s - 1, floor(%(posts)s
                        * (moment - random() * random() * 2 / 7))))::int4 AS place
                FROM week, (
                    SELECT (%(slice)s + i::float8 / %(likes)s) / %(slices)s AS moment
                    FROM generate_series(0, %(likes)s - 1) AS i
                ) AS moments
            ) AS drawn, week
        ) AS placed
    ) AS made ORDER BY liked_at
""".format(n="n")
_STATS: Final = """
    INSERT INTO post_stats (rkey, actor, likes)
    SELECT target_rkey, target_actor, count(*) FROM link_like
    WHERE target_collection = %(post)s GROUP BY 1, 2
    ON CONFLICT (rkey, actor) DO UPDATE SET likes = excluded.likes
"""


def give_likes(index: Index, liked: Liked, dids: Sequence[str]) -> None:
    """Give each account the likes of one reader."""
    with index.pool.connection() as conn:
        conn.execute(_GIVEN, {"first": liked.first, "dids": [*dids]})


_GIVEN: Final = """
    INSERT INTO link (
        rkey, target_rkey, actor, target_actor, target_collection, path, sort_at
    )
    SELECT l.rkey, l.target_rkey, viewer.id, l.target_actor, l.target_collection,
        l.path, l.sort_at
    FROM (
        SELECT id, %(first)s + row_number() OVER (ORDER BY id) - 1 AS reader
        FROM actor WHERE did = ANY(%(dids)s)
    ) AS viewer JOIN link_like l ON l.actor = viewer.reader
    ORDER BY l.sort_at
"""
