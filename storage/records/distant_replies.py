"""Replies by their ancestors beyond the parent, for notifications.

A row for each ancestor of a reply two to four levels above it. Edges lead to parents
only, and other accounts write the posts in between. So the rows follow from committed
posts, after every change of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from storage.collections import COLLECTION_IDS, FEED_POST
from storage.outbox import outbox_backlog
from storage.postgres.arrays import int_columns
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn

_POST: Final = COLLECTION_IDS[FEED_POST]

_LEVELS_BELOW: Final = 3
"""A changed post is between a reply and an ancestor for replies up to so far below."""
MAX_CHILDREN: Final = 1_000
"""Replies of one post that are followed downwards."""
MAX_WAITING: Final = 100_000
"""Entries of the outbox up to which rows are audited."""
MAX_FOLLOWED: Final = 10_000
"""Replies of one level that are followed downwards, of all posts together."""

Post = tuple[int, int]
"""(actor, rkey)."""


def settle_distant_replies(conn: Conn, posts: Iterable[Post]) -> None:
    """Make the rows of changed posts, and of replies below them, follow from the posts.

    Does not commit. Repeated calls change nothing.
    """
    changed = {*posts}
    if not changed:
        return
    # A batch touches a few rows of large tables.
    conn.execute("SELECT set_config('enable_hashjoin', 'off', true)")
    level, affected = changed, changed
    for _ in range(_LEVELS_BELOW):
        level = _children(conn, level) - affected
        if not level:
            break
        affected |= level
    conn.execute(_SETTLE, int_columns(sorted(affected), 2))


def _children(conn: Conn, posts: set[Post]) -> set[Post]:
    if not posts:
        return set()
    rows = conn.execute(
        """
        SELECT c.actor, c.rkey FROM unnest(%s::int4[], %s::int8[]) AS d (actor, rkey)
        CROSS JOIN LATERAL (
            SELECT l.actor, l.rkey FROM link_reply_parent l
            WHERE l.target_rkey = d.rkey AND l.target_actor = d.actor LIMIT %s
        ) AS c LIMIT %s
        """,
        (*int_columns(sorted(posts), 2), MAX_CHILDREN, MAX_FOLLOWED),
    )
    return {*rows.fetchall()}


WANTED: Final = """
    SELECT p.actor, p.rkey, h.height, h.actor AS recipient, h.rkey AS subject_rkey,
           p.sort_at
    FROM affected d
    JOIN post p ON p.actor = d.actor AND p.rkey = d.rkey
    JOIN post p1 ON p1.actor = p.parent_actor AND p1.rkey = p.parent_rkey
    LEFT JOIN post p2 ON p2.actor = p1.parent_actor AND p2.rkey = p1.parent_rkey
    LEFT JOIN post p3 ON p3.actor = p2.parent_actor AND p3.rkey = p2.parent_rkey
    CROSS JOIN LATERAL (VALUES
        (2::int2, p1.parent_actor, p1.parent_rkey),
        (3::int2, p2.parent_actor, p2.parent_rkey),
        (4::int2, p3.parent_actor, p3.parent_rkey)
    ) AS h (height, actor, rkey)
    WHERE h.actor <> p.actor
"""
"""The rows of posts in `affected`."""

_SETTLE: Final = f"""
    WITH affected AS MATERIALIZED (
        SELECT * FROM unnest(%s::int4[], %s::int8[]) AS x (actor, rkey)
    ), wanted AS MATERIALIZED ({WANTED}), gone AS (
        DELETE FROM distant_reply r USING affected d
        WHERE r.actor = d.actor AND r.rkey = d.rkey AND NOT EXISTS (
            SELECT FROM wanted w
            WHERE (w.actor, w.rkey, w.height) = (r.actor, r.rkey, r.height))
    )
    INSERT INTO distant_reply (actor, rkey, height, recipient, subject_rkey, sort_at)
    SELECT actor, rkey, height, recipient, subject_rkey, sort_at FROM wanted
    ON CONFLICT (actor, rkey, height) DO UPDATE SET
        recipient = excluded.recipient, subject_rkey = excluded.subject_rkey,
        sort_at = excluded.sort_at
    WHERE (distant_reply.recipient, distant_reply.subject_rkey, distant_reply.sort_at)
        IS DISTINCT FROM (excluded.recipient, excluded.subject_rkey, excluded.sort_at)
"""


def count_wrong_distant_replies(conn: Conn, actor: int) -> int:
    """Return the number of missing, surplus and wrong rows of an account's replies.

    Replies below a post that waits in the outbox are left out: the drain makes their
    rows. While more than MAX_WAITING entries wait, nothing is compared.
    """
    if outbox_backlog(conn, MAX_WAITING + 1) > MAX_WAITING:
        return 0
    return fetch_int(conn, _WRONG, (actor, actor, _POST))


# A row depends on the reply and on the posts above it: of these the ones that are
# there, and the first one that is missing.
_WRONG: Final = f"""
    WITH affected AS (
        SELECT p.actor, p.rkey FROM post p
        WHERE p.actor = %s AND p.parent_rkey IS NOT NULL
    ), wanted AS ({WANTED}), held AS (
        SELECT actor, rkey, height, recipient, subject_rkey, sort_at
        FROM distant_reply WHERE actor = %s
    ), wrong AS MATERIALIZED (
        (TABLE wanted EXCEPT TABLE held) UNION ALL (TABLE held EXCEPT TABLE wanted)
    ), depends AS (
        SELECT w.actor, w.rkey, a.actor AS above_actor, a.rkey AS above_rkey
        FROM (SELECT DISTINCT actor, rkey FROM wrong) w
        LEFT JOIN post p ON p.actor = w.actor AND p.rkey = w.rkey
        LEFT JOIN post p1 ON p1.actor = p.parent_actor AND p1.rkey = p.parent_rkey
        LEFT JOIN post p2 ON p2.actor = p1.parent_actor AND p2.rkey = p1.parent_rkey
        CROSS JOIN LATERAL (VALUES
            (w.actor, w.rkey), (p.parent_actor, p.parent_rkey),
            (p1.parent_actor, p1.parent_rkey), (p2.parent_actor, p2.parent_rkey)
        ) AS a (actor, rkey)
    ), waiting AS MATERIALIZED (
        SELECT d.actor, d.rkey FROM depends d
        JOIN search_outbox o ON o.actor = d.above_actor AND o.rkey = d.above_rkey
        WHERE o.collection = %s
    )
    SELECT count(*) FROM wrong w
    WHERE (w.actor, w.rkey) NOT IN (SELECT actor, rkey FROM waiting)
"""
