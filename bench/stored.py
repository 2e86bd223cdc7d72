"""A large index, generated inside the database.

Rows have the number, size and order on disk of live traffic; their values are copies.
New records can refer to the stored posts, so that a benchmark reaches all of them.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from bench.fake_accounts import POST, FakeAccounts
from bench.index import Index
from bench.metric import Progress
from protocol.data.cid import cid_for, cid_to_text
from protocol.syntax import tid_from_int
from storage.collections import (
    BLOCK_SUBJECT,
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_POST,
    FEED_REPOST,
    FOLLOW_SUBJECT,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
    LIKE_SUBJECT,
    NO_COLLECTION,
    NO_RKEY,
    REPOST_SUBJECT,
)
from storage.postgres.pool import Conn

A_REPO: Final = 200
_PIECE: Final = 2_500
"""Repos per transaction."""
_KNOWN_POSTS: Final = 200_000

# Ends of the numbers of each kind among the 200 records of a repo; of a repo of another
# size in proportion.
_POSTS: Final = 34
_LIKES: Final = _POSTS + 110
_REPOSTS: Final = _LIKES + 22
_FOLLOWS: Final = _REPOSTS + 30

_YEAR_US: Final = 365 * 24 * 3600 * 1_000_000
_FIRST_US: Final = 1_718_000_000_000_000
# Primes that give record `n` of account `a` a pseudo-random time.
_SPREAD: Final = (7_919, 104_729, 2_654_435_761)


@dataclass(frozen=True, slots=True)
class Stored:
    """`accounts` stored repos of `a_repo` records, with actor ids from `first` on."""

    first: int
    accounts: int
    seconds: float
    a_repo: int = A_REPO

    @property
    def records(self) -> int:
        return self.accounts * self.a_repo

    @property
    def posts(self) -> int:
        """Return the number of posts of an account."""
        return _part(_POSTS, self.a_repo)


def fill(
    index: Index, records: int, progress: Progress, a_repo: int = A_REPO
) -> Stored:
    """Store about `records` records, `a_repo` an account, with their links and counts.

    The index must hold some records of each kind, whose values are copied.
    """
    started = time.perf_counter()
    accounts = max(1, records // a_repo)
    sizes = {name: _part(end, a_repo) for name, end in _ENDS.items()}
    with psycopg.connect(
        index.url, autocommit=True, cursor_factory=psycopg.ClientCursor
    ) as conn:
        # Generated rows need no crash safety.
        conn.execute("SET synchronous_commit = off")
        conn.execute("SET work_mem = '128MB'")
        first = _put_accounts(conn, accounts)
        conn.execute(_VALUES, {"kinds": list(_KINDS)})
        for done in range(0, accounts, _PIECE):
            end = min(done + _PIECE, accounts)
            numbers = (
                _NUMBERS
                | sizes
                | {
                    "last": a_repo - 1,
                    "first": first,
                    "accounts": accounts,
                    "start": done,
                    "end": end - 1,
                }
            )
            with conn.transaction():
                conn.execute(_RECORDS, numbers)
                conn.execute(_PUT_RECORDS)
                for statement in (_PUT_LINKS, _PUT_POSTS, _PUT_STATS, _PUT_ACTORS):
                    conn.execute(statement, numbers)
                conn.execute("DROP TABLE made")
            progress.count("stored records", end * a_repo, accounts * a_repo)
    return Stored(first, accounts, time.perf_counter() - started, a_repo)


def spread(fakes: FakeAccounts, stored: Stored, *, seed: int = 1) -> None:
    """Let fake accounts refer to stored posts."""
    draw = random.Random(seed)
    posts = []
    for _ in range(min(_KNOWN_POSTS, stored.accounts * stored.posts)):
        account, number = draw.randrange(stored.accounts), draw.randrange(stored.posts)
        rkey = tid_from_int(rkey_of(account, number))
        uri = f"at://{did_of(account)}/{POST}/{rkey}"
        posts.append((uri, cid_to_text(cid_for(uri.encode()))))
    fakes.know_posts(posts)


def did_of(account: int) -> str:
    """Return the DID of a stored account."""
    digits = str(account).translate(str.maketrans("0123456789", "abcdefghij"))
    return f"did:plc:stored{digits:a>18}"


def rkey_of(account: int, number: int) -> int:
    """Return the record key, as a number, of a record of a stored account."""
    first, second, third = _SPREAD
    spread_out = (account * first + number * second) * third % _YEAR_US
    return (_FIRST_US + spread_out) << 10 | 7


def _part(end: int, a_repo: int) -> int:
    return end * a_repo // A_REPO


def _put_accounts(conn: Conn, accounts: int) -> int:
    row = conn.execute(
        """
        WITH made AS (
            INSERT INTO actor (did)
            SELECT 'did:plc:stored'
                || lpad(translate(a::text, '0123456789', 'abcdefghij'), 18, 'a')
            FROM generate_series(0, %s - 1) AS a ORDER BY a RETURNING id
        ), known AS (
            INSERT INTO repo (actor, state, rev, data, commit, synchronized_at)
            SELECT id, 'synchronized', '3ltqaaaaaaa22',
                decode(repeat('a5', 36), 'hex'), decode(repeat('5a', 220), 'hex'), now()
            FROM made
        )
        SELECT min(id) FROM made
        """,
        (accounts,),
    ).fetchone()
    assert row is not None
    return int(row[0])


_KINDS: Final = tuple(
    COLLECTION_IDS[nsid]
    for nsid in (FEED_POST, FEED_LIKE, FEED_REPOST, GRAPH_FOLLOW, GRAPH_BLOCK)
)

_ENDS: Final = {
    "posts": _POSTS,
    "likes": _LIKES,
    "reposts": _REPOSTS,
    "follows": _FOLLOWS,
}
_NUMBERS: Final[dict[str, Any]] = {
    "post": COLLECTION_IDS[FEED_POST],
    "like": COLLECTION_IDS[FEED_LIKE],
    "repost": COLLECTION_IDS[FEED_REPOST],
    "follow": COLLECTION_IDS[GRAPH_FOLLOW],
    "block": COLLECTION_IDS[GRAPH_BLOCK],
    "a": _SPREAD[0],
    "n": _SPREAD[1],
    "prime": _SPREAD[2],
    "year": _YEAR_US,
    "epoch": _FIRST_US,
    "like_path": LIKE_SUBJECT,
    "repost_path": REPOST_SUBJECT,
    "follow_path": FOLLOW_SUBJECT,
    "block_path": BLOCK_SUBJECT,
    "nothing": NO_COLLECTION,
    "no_rkey": NO_RKEY,
}

# A hundred values of each kind, used repeatedly.
_VALUES: Final = """
    CREATE TEMPORARY TABLE stored_value AS
    SELECT kind AS collection, number AS value_number,
        held[1 + number %% cardinality(held)] AS value
    FROM unnest(%(kinds)s::int4[]) AS kind, generate_series(0, 99) AS number, LATERAL (
        SELECT array_agg(value) AS held
        FROM (SELECT value FROM record WHERE collection = kind LIMIT 100) AS some_values
    ) AS samples
"""

# One row a record: author, kind, time and target; popular targets are more frequent.
_RECORDS: Final = """
    CREATE TEMPORARY TABLE made AS
    SELECT %(first)s + account AS actor, collection,
        (%(epoch)s + (account::int8 * %(a)s + number * %(n)s) * %(prime)s %% %(year)s)
            << 10 | 7 AS rkey,
        number, value, target, target_number,
        (%(epoch)s + (target::int8 * %(a)s + target_number * %(n)s) * %(prime)s
            %% %(year)s) << 10 | 7 AS target_rkey
    FROM (
        SELECT account, number, (account + number) %% 100 AS value_number,
            CASE WHEN number < %(posts)s THEN %(post)s
                WHEN number < %(likes)s THEN %(like)s
                WHEN number < %(reposts)s THEN %(repost)s
                WHEN number < %(follows)s THEN %(follow)s ELSE %(block)s
            END AS collection,
            floor(%(accounts)s * random() * random())::int4 AS target,
            floor(%(posts)s * random())::int4 AS target_number
        FROM generate_series(%(start)s, %(end)s) AS account,
            generate_series(0, %(last)s) AS number
    ) AS drawn
    JOIN stored_value USING (collection, value_number)
"""
_PUT_RECORDS: Final = """
    INSERT INTO record (actor, collection, rkey, value)
    SELECT actor, collection, rkey, value FROM made ORDER BY actor, collection, rkey
"""
_PUT_LINKS: Final = """
    INSERT INTO link (
        rkey, target_rkey, actor, target_actor, target_collection, path, sort_at
    )
    SELECT rkey,
        CASE WHEN number < %(reposts)s THEN target_rkey ELSE %(no_rkey)s END,
        actor, %(first)s + target,
        CASE WHEN number < %(reposts)s THEN %(post)s ELSE %(nothing)s END,
        CASE WHEN number < %(likes)s THEN %(like_path)s
            WHEN number < %(reposts)s THEN %(repost_path)s
            WHEN number < %(follows)s THEN %(follow_path)s ELSE %(block_path)s END,
        to_timestamp((rkey >> 10) / 1e6)
    FROM made WHERE number >= %(posts)s
"""
_PUT_POSTS: Final = """
    INSERT INTO post (rkey, sort_at, created_at, indexed_at, actor, media, langs)
    SELECT rkey, made_at, made_at, made_at, actor, 0, '{en}'
    FROM (SELECT actor, rkey, to_timestamp((rkey >> 10) / 1e6) AS made_at
          FROM made WHERE number < %(posts)s) AS posts
"""
_PUT_STATS: Final = """
    INSERT INTO post_stats (rkey, actor, likes, reposts)
    SELECT target_rkey, %(first)s + target,
        count(*) FILTER (WHERE number < %(likes)s),
        count(*) FILTER (WHERE number >= %(likes)s)
    FROM made WHERE number >= %(posts)s AND number < %(reposts)s
    GROUP BY target_rkey, target
    ON CONFLICT (rkey, actor) DO UPDATE SET likes = post_stats.likes + excluded.likes,
        reposts = post_stats.reposts + excluded.reposts
"""
_PUT_ACTORS: Final = """
    INSERT INTO actor_stats (actor, followers, follows, posts)
    SELECT actor, sum(followers), sum(follows), sum(posts) FROM (
        SELECT actor, 0 AS followers,
            count(*) FILTER (WHERE number >= %(reposts)s AND number < %(follows)s)
                AS follows,
            count(*) FILTER (WHERE number < %(posts)s) AS posts
        FROM made GROUP BY actor
        UNION ALL
        SELECT %(first)s + target, count(*), 0, 0 FROM made
        WHERE number >= %(reposts)s AND number < %(follows)s GROUP BY target
    ) AS changes GROUP BY actor
    ON CONFLICT (actor) DO UPDATE SET
        followers = actor_stats.followers + excluded.followers,
        follows = actor_stats.follows + excluded.follows,
        posts = actor_stats.posts + excluded.posts
"""
