"""Followers of accounts whom the viewer follows.

Both sides may be long: the shorter one is read, and it is bounded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from appview.skeletons.places import followed_ids
from storage.collections import FOLLOW_SUBJECT, NO_COLLECTION, NO_RKEY
from storage.postgres.arrays import int_array
from storage.postgres.pool import Conn
from storage.records.links import partition_of
from storage.states import STATUS_DELETED

if TYPE_CHECKING:
    from appview.hydration.state import State

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
# Follows of a deleted account are removed a little later.
_NOT_DELETED: Final = f"a.upstream_status <> '{STATUS_DELETED}'"


def load_known_of(state: State, ids: Iterable[int]) -> None:
    """Load the known followers of loaded accounts, and those that are shown."""
    viewer = state.session.viewer_actor
    if viewer is None:
        return
    fresh = {*ids} - state.known_followers.keys()
    found = load_known_followers(state.session.conn, viewer, fresh)
    state.known_followers |= {actor: found.get(actor, []) for actor in fresh}
    state.load_actors(a for known in found.values() for a in known[:MAX_SHOWN])


def load_known_followers(
    conn: Conn, viewer: int, subjects: Collection[int]
) -> dict[int, list[int]]:
    """Return account -> its followers whom the viewer follows, the oldest follow first.

    Accounts without a known follower are absent.
    """
    if not subjects:
        return {}
    followed = followed_ids(conn, viewer)[: MAX_PROBES // len(subjects)]
    if not followed:
        return {}
    sizes = _count_followers(conn, subjects)
    few = [actor for actor in subjects if sizes.get(actor, 0) <= len(followed)]
    many = [actor for actor in subjects if sizes.get(actor, 0) > len(followed)]
    pairs: list[tuple[int, int]] = []
    if few:
        pairs += _scan(conn, few, followed)
    if many:
        pairs += _probe(conn, many, followed)
    since = {actor: place for place, actor in enumerate(reversed(followed))}
    found: dict[int, list[int]] = {}
    for subject, actor in sorted(pairs, key=lambda pair: since[pair[1]]):
        found.setdefault(subject, []).append(actor)
    return found


def _count_followers(conn: Conn, subjects: Collection[int]) -> dict[int, int]:
    rows = conn.execute(
        "SELECT actor, followers FROM actor_stats WHERE actor = ANY(%s)", ([*subjects],)
    )
    return dict(rows.fetchall())


def _scan(
    conn: Conn, subjects: Sequence[int], followed: Sequence[int]
) -> list[tuple[int, int]]:
    """Return pairs of a subject and a known follower, from the followers of each."""
    # LIMIT keeps the order of the joins: one range of the index for each subject.
    return conn.execute(
        f"""
        SELECT s.id, l.actor FROM unnest(%s::int4[]) AS s (id)
        CROSS JOIN LATERAL (
            SELECT l.actor FROM {_FOLLOWS} l
            WHERE l.target_actor = s.id AND {_OF_ACCOUNTS}
            ORDER BY l.sort_at DESC LIMIT %s
        ) l
        JOIN unnest(%s::int4[]) AS f (id) ON f.id = l.actor
        JOIN actor a ON a.id = l.actor AND {_NOT_DELETED}
        """,
        (int_array(subjects), len(followed), int_array(followed)),
    ).fetchall()


def _probe(
    conn: Conn, subjects: Sequence[int], followed: Sequence[int]
) -> list[tuple[int, int]]:
    """Return pairs of a subject and a known follower, from the follows of the
    viewer."""
    # LIMIT keeps the order of the joins: one probe of the index for each pair.
    return conn.execute(
        f"""
        SELECT s.id, f.id FROM unnest(%s::int4[]) AS s (id)
        CROSS JOIN unnest(%s::int4[]) AS f (id)
        CROSS JOIN LATERAL (
            SELECT FROM {_FOLLOWS} l
            WHERE l.actor = f.id AND l.target_actor = s.id AND {_OF_ACCOUNTS}
            LIMIT 1
        ) l
        JOIN actor a ON a.id = f.id AND {_NOT_DELETED}
        """,
        (int_array(subjects), int_array(followed)),
    ).fetchall()
