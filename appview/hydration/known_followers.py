"""Followers of accounts whom the viewer follows.

Both sides may be long: the shorter one is read, and it is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appview.skeletons.places import followed_ids
from storage.collections import FOLLOW_SUBJECT, NO_COLLECTION, NO_RKEY
from storage.postgres.pool import Conn
from storage.records.links import partition_of

MAX_SHOWN: Final = 5
"""Known followers in a view, as the lexicon has it."""
MAX_PROBES: Final = 20_000
"""Pairs of a followed account and a subject that one answer looks up; the latest
follows come first."""
_FOLLOWS: Final = partition_of(FOLLOW_SUBJECT)
_OF_ACCOUNTS: Final = (
    f"l.target_rkey = {NO_RKEY} AND l.target_collection = {NO_COLLECTION}"
    f" AND l.path = {FOLLOW_SUBJECT}"
)


def load_known_followers(
    conn: Conn, viewer: int, followers: Mapping[int, int]
) -> dict[int, list[int]]:
    """Return account -> its followers whom the viewer follows, the latest first.

    `followers` gives the number of followers of each account. Accounts without a known
    follower are absent.
    """
    if not followers:
        return {}
    followed = followed_ids(conn, viewer)[: MAX_PROBES // len(followers)]
    few = [actor for actor, number in followers.items() if number <= len(followed)]
    many = [actor for actor, number in followers.items() if number > len(followed)]
    found: dict[int, list[int]] = {}
    # LIMIT keeps the order of the joins: one probe or one range for each row.
    if few and followed:
        rows = conn.execute(
            f"""
            SELECT s.id, l.actor FROM unnest(%s::int4[]) AS s (id)
            CROSS JOIN LATERAL (
                SELECT l.actor, l.sort_at FROM {_FOLLOWS} l
                WHERE l.target_actor = s.id AND {_OF_ACCOUNTS}
                ORDER BY l.sort_at DESC LIMIT %s
            ) l
            JOIN unnest(%s::int4[]) AS f (id) ON f.id = l.actor
            ORDER BY l.sort_at DESC, l.actor DESC
            """,
            (few, len(followed), followed),
        )
        for subject, actor in rows:
            found.setdefault(subject, []).append(actor)
    if many and followed:
        rows = conn.execute(
            f"""
            SELECT s.id, f.id FROM unnest(%s::int4[]) AS s (id)
            CROSS JOIN unnest(%s::int4[]) AS f (id)
            CROSS JOIN LATERAL (
                SELECT l.sort_at FROM {_FOLLOWS} l
                WHERE l.actor = f.id AND l.target_actor = s.id AND {_OF_ACCOUNTS}
                LIMIT 1
            ) l
            ORDER BY l.sort_at DESC, f.id DESC
            """,
            (many, followed),
        )
        for subject, actor in rows:
            found.setdefault(subject, []).append(actor)
    return found
