"""Names, threads, viewers and search documents, which views read beside records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, LiteralString

import psycopg

from bench.fake_accounts import Member
from bench.index import Index
from bench.metric import Progress
from bench.search.copies import place_copied, rebalance
from bench.stored import Stored
from search.engines.postgres.slices import READ_SLICES, slices_of
from search.engines.postgres.tsvector import TIER
from storage.collections import (
    ACTOR_PROFILE,
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_POST,
    FOLLOW_SUBJECT,
    GRAPH_FOLLOW,
    LIKE_SUBJECT,
    REPLY_PARENT,
    REPLY_ROOT,
    RKEY_SELF,
)
from storage.records.stats import TIERS

FOLLOWS: Final = 500
"""Follows of each viewer."""
_LIKES: Final = 2_000
"""Likes of posts of each viewer, by stored accounts."""


def complete(
    index: Index, stored: Stored, viewers: Sequence[Member], progress: Progress
) -> None:
    """Add names, profiles, replies and search documents to a stored index.

    Each of the `viewers`, accounts with posts, gets follows and likes.
    """
    numbers: dict[str, Any] = {
        "first": stored.first,
        "end": stored.first + stored.accounts,
        "accounts": stored.accounts,
        "viewers": [viewer.did for viewer in viewers],
        "follows": FOLLOWS,
        "likes": _LIKES,
        "post": COLLECTION_IDS[FEED_POST],
        "profile": COLLECTION_IDS[ACTOR_PROFILE],
        "follow": COLLECTION_IDS[GRAPH_FOLLOW],
        "like": COLLECTION_IDS[FEED_LIKE],
        "self": RKEY_SELF,
        "like_path": LIKE_SUBJECT,
        "follow_path": FOLLOW_SUBJECT,
        "parent_path": REPLY_PARENT,
        "root_path": REPLY_ROOT,
        "bounds": list(TIERS),
        "tiers": [f"{TIER}{tier}" for tier, _ in enumerate(TIERS, 2)],
    }
    with psycopg.connect(index.url, cursor_factory=psycopg.ClientCursor) as conn:
        conn.execute("SET synchronous_commit = off")
        conn.execute("SET work_mem = '256MB'")
        steps = (*_NAMES, *_REPLIES, *_VIEWERS, *_DOCUMENTS)
        for done, statement in enumerate(steps, 1):
            conn.execute(statement, numbers)
            progress.count("steps", done, len(steps))
        place_copied(conn)
    with index.pool.connection() as conn:
        rebalance(conn)
        # So many rows at once leave empty pages behind, which daily ones fill again.
        for one in slices_of(conn.execute(READ_SLICES).fetchall()):
            conn.execute(f"REINDEX TABLE {one.table}")


_NAMES: Final[tuple[LiteralString, ...]] = (
    """
    UPDATE actor SET handle = 'stored' || id || '.test'
    WHERE id >= %(first)s AND id < %(end)s
    """,
    """
    INSERT INTO profile (actor, display_name, description, indexed_at)
    SELECT id, 'Stored ' || id, 'An account that was made for a benchmark', now()
    FROM actor WHERE id >= %(first)s AND id < %(end)s
    """,
    """
    INSERT INTO record (actor, collection, rkey, value)
    SELECT id, %(profile)s, %(self)s, value FROM actor, (
        SELECT value FROM record WHERE collection = %(profile)s LIMIT 1
    ) AS some_profile WHERE id >= %(first)s AND id < %(end)s
    """,
)

# Half of the posts begin threads, which are popular to different degrees. The others
# reply to these, or to replies.
_REPLIES: Final[tuple[LiteralString, ...]] = (
    """
    CREATE TEMPORARY TABLE drawn ON COMMIT DROP AS
    SELECT actor, rkey, sort_at, random() AS draw FROM post
    WHERE actor >= %(first)s AND actor < %(end)s
    """,
    """
    CREATE TEMPORARY TABLE root ON COMMIT DROP AS
    SELECT row_number() OVER (ORDER BY actor, rkey) AS n, actor, rkey
    FROM drawn WHERE draw < 0.5
    """,
    """
    CREATE TEMPORARY TABLE reply ON COMMIT DROP AS
    SELECT row_number() OVER () AS n, r.actor, r.rkey, r.sort_at,
        root.actor AS parent_actor, root.rkey AS parent_rkey,
        root.actor AS root_actor, root.rkey AS root_rkey
    FROM (
        SELECT *, 1 + floor((SELECT count(*) FROM root)
            * random() * random() * random())::int8 AS target
        FROM drawn WHERE draw >= 0.5 AND draw < 0.8
    ) AS r JOIN root ON root.n = r.target
    """,
    """
    INSERT INTO reply
    SELECT NULL, r.actor, r.rkey, r.sort_at,
        above.actor, above.rkey, above.root_actor, above.root_rkey
    FROM (
        SELECT *, 1 + floor((SELECT count(*) FROM reply) * random())::int8 AS target
        FROM drawn WHERE draw >= 0.8
    ) AS r JOIN reply AS above ON above.n = r.target
    """,
    """
    UPDATE post SET parent_actor = r.parent_actor, parent_rkey = r.parent_rkey,
        root_actor = r.root_actor, root_rkey = r.root_rkey
    FROM reply AS r WHERE post.actor = r.actor AND post.rkey = r.rkey
    """,
    """
    INSERT INTO link (
        rkey, target_rkey, actor, target_actor, target_collection, path, sort_at
    )
    SELECT rkey, parent_rkey, actor, parent_actor, %(post)s, %(parent_path)s, sort_at
    FROM reply
    UNION ALL
    SELECT rkey, root_rkey, actor, root_actor, %(post)s, %(root_path)s, sort_at
    FROM reply
    """,
    """
    INSERT INTO post_stats (rkey, actor, replies)
    SELECT parent_rkey, parent_actor, count(*) FROM reply GROUP BY 1, 2
    ON CONFLICT (rkey, actor) DO UPDATE SET
        replies = post_stats.replies + excluded.replies
    """,
)

_VIEWERS: Final[tuple[LiteralString, ...]] = (
    """
    CREATE TEMPORARY TABLE followed ON COMMIT DROP AS
    SELECT DISTINCT ON (viewer, target) viewer, target,
        (extract(epoch FROM now())::int8 * 1000000 - n * 1000003) << 10 | 9 AS rkey
    FROM (
        SELECT id AS viewer, n,
            %(first)s + floor(%(accounts)s * random() * random())::int4 AS target
        FROM actor, generate_series(1, %(follows)s) AS n WHERE did = ANY(%(viewers)s)
    ) AS drawn
    """,
    """
    INSERT INTO record (actor, collection, rkey, value)
    SELECT viewer, %(follow)s, rkey, value FROM followed, (
        SELECT value FROM record WHERE collection = %(follow)s LIMIT 1
    ) AS some_follow
    """,
    """
    INSERT INTO link (
        rkey, target_rkey, actor, target_actor, target_collection, path, sort_at
    )
    SELECT rkey, 0, viewer, target, 0, %(follow_path)s,
        to_timestamp((rkey >> 10) / 1e6)
    FROM followed
    """,
    """
    INSERT INTO actor_stats (actor, followers)
    SELECT target, count(*) FROM followed GROUP BY target
    ON CONFLICT (actor) DO UPDATE SET
        followers = actor_stats.followers + excluded.followers
    """,
    """
    CREATE TEMPORARY TABLE liked ON COMMIT DROP AS
    SELECT (extract(epoch FROM now())::int8 * 1000000 - n * 1000033) << 10 | 11
            AS rkey, p.rkey AS target_rkey,
        %(first)s + (n * 7919 + a.id) %% %(accounts)s AS actor, a.id AS target_actor,
        now() - n * interval '1 minute' AS sort_at
    FROM actor AS a, generate_series(1, %(likes)s) AS n, LATERAL (
        SELECT rkey FROM post WHERE actor = a.id ORDER BY rkey OFFSET n %% 20 LIMIT 1
    ) AS p
    WHERE a.did = ANY(%(viewers)s)
    """,
    """
    INSERT INTO record (actor, collection, rkey, value)
    SELECT DISTINCT ON (actor, rkey) actor, %(like)s, rkey, value FROM liked, (
        SELECT value FROM record WHERE collection = %(like)s LIMIT 1
    ) AS some_like
    """,
    """
    INSERT INTO link (
        rkey, target_rkey, actor, target_actor, target_collection, path, sort_at
    )
    SELECT DISTINCT ON (actor, rkey)
        rkey, target_rkey, actor, target_actor, %(post)s, %(like_path)s, sort_at
    FROM liked
    """,
)

# A stored post has the value of a post that is indexed, so it has its words too; author
# and tiers of reactions are its own. Words are counted by value: there are a hundred.
_DOCUMENTS: Final[tuple[LiteralString, ...]] = (
    """
    CREATE TEMPORARY TABLE known ON COMMIT DROP AS
    SELECT DISTINCT ON (value) value,
        ts_delete(tsv, %(tiers)s::text[] || ('a:' || actor)) AS tsv
    FROM record JOIN search_document USING (actor, collection, rkey)
    WHERE collection = %(post)s
    """,
    """
    CREATE TEMPORARY TABLE tiered ON COMMIT DROP AS
    SELECT actor, rkey, width_bucket(
        likes + 2 * reposts + replies + 2 * quotes, %(bounds)s::int4[]) AS tier
    FROM post_stats WHERE actor >= %(first)s AND actor < %(end)s
    """,
    """
    CREATE TEMPORARY TABLE copied ON COMMIT DROP AS
    SELECT r.rkey, to_timestamp((r.rkey >> 10) / 1e6) AS ts, r.actor, r.collection,
        known.tsv || array_to_tsvector(
            ('a:' || r.actor) || (%(tiers)s::text[])[:coalesce(tier, 0)]) AS tsv
    FROM record AS r JOIN known USING (value) LEFT JOIN tiered USING (actor, rkey)
    WHERE r.actor >= %(first)s AND r.actor < %(end)s AND r.collection = %(post)s
    """,
    """
    INSERT INTO search_word (word, documents)
    SELECT word, sum(documents) FROM (
        SELECT unnest(tsvector_to_array(tsv)) AS word, documents
        FROM known JOIN (
            SELECT value, count(*) AS documents FROM record
            WHERE actor >= %(first)s AND actor < %(end)s AND collection = %(post)s
            GROUP BY value
        ) AS stored USING (value)
        UNION ALL
        SELECT (%(tiers)s::text[])[number], count(*)
        FROM tiered, generate_series(1, tier) AS number GROUP BY number
    ) AS counted GROUP BY word
    ON CONFLICT (word) DO UPDATE
    SET documents = search_word.documents + excluded.documents
    """,
)
