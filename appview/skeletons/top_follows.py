"""Follows and followers of an account, those with the most followers first.

The ranking is over the latest MAX_RANKED, so that its cost is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appview.paging import Entry
from appview.skeletons.places import followed_ids
from storage.collections import FOLLOW_SUBJECT, NO_COLLECTION, NO_RKEY
from storage.postgres.arrays import int_array
from storage.postgres.pool import Conn
from storage.records.links import partition_of

MAX_RANKED: Final = 5_000


def top_follows(conn: Conn, actor: int) -> list[Entry[int]]:
    """Return accounts that an account follows, the most followed first."""
    return _rank(conn, followed_ids(conn, actor)[:MAX_RANKED])


def top_followers(conn: Conn, actor: int) -> list[Entry[int]]:
    """Return accounts that follow an account, the most followed first."""
    rows = conn.execute(
        f"""
        SELECT actor FROM {partition_of(FOLLOW_SUBJECT)}
        WHERE path = %s AND target_actor = %s AND target_rkey = %s
          AND target_collection = %s
        ORDER BY sort_at DESC LIMIT %s
        """,
        (FOLLOW_SUBJECT, actor, NO_RKEY, NO_COLLECTION, MAX_RANKED),
    )
    return _rank(conn, [follower for (follower,) in rows])


def _rank(conn: Conn, actors: Sequence[int]) -> list[Entry[int]]:
    rows = conn.execute(
        """
        SELECT x.id, coalesce(s.followers, 0)
        FROM (SELECT DISTINCT id FROM unnest(%s::int4[]) AS u (id)) x
        LEFT JOIN actor_stats s ON s.actor = x.id
        ORDER BY 2 DESC, 1
        """,
        (int_array(actors),),
    )
    return [Entry(actor, [-followers, actor]) for actor, followers in rows]
