"""Repos by collection: a row for each pair of a repo and a collection.

Collections that most repos hold have no rows: their repos are found by walking all.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from storage.collections import (
    ACTOR_PROFILE,
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_POST,
    FEED_REPOST,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
)
from storage.postgres.arrays import int_columns
from storage.postgres.pool import Conn
from storage.states import STATUS_ACTIVE

COMMON: Final = frozenset(
    COLLECTION_IDS[nsid]
    for nsid in (
        ACTOR_PROFILE,
        FEED_LIKE,
        FEED_POST,
        FEED_REPOST,
        GRAPH_BLOCK,
        GRAPH_FOLLOW,
    )
)
"""Collections without rows."""
_ROUNDS: Final = 6
_MOST_WALKED: Final = 4_096

Pair = tuple[int, int]
"""Actor and collection."""


class Holder(NamedTuple):
    """An account that holds a record of a collection."""

    actor: int
    did: str


class Holders(NamedTuple):
    """A page of accounts; the next begins after the actor `after`, None at the end."""

    found: list[Holder]
    after: int | None


def put_holders(conn: Conn, pairs: Collection[Pair]) -> None:
    """Note that these repos hold records of these collections."""
    if pairs:
        conn.execute(
            "INSERT INTO collection_repo (actor, collection)"
            " SELECT * FROM unnest(%s::int4[], %s::int4[]) ON CONFLICT DO NOTHING",
            int_columns(sorted(pairs), 2),
        )


def drop_holders(conn: Conn, pairs: Collection[Pair]) -> None:
    """Remove those of these pairs without a record."""
    if pairs:
        conn.execute(
            """
            DELETE FROM collection_repo c
            USING unnest(%s::int4[], %s::int4[]) AS d (actor, collection)
            WHERE c.actor = d.actor AND c.collection = d.collection
              AND NOT EXISTS (SELECT FROM record r
                WHERE r.actor = d.actor AND r.collection = d.collection)
            """,
            int_columns(sorted(pairs), 2),
        )


def fetch_held(conn: Conn, actor: int) -> set[Pair]:
    """Return the pairs of one account."""
    rows = conn.execute(
        "SELECT actor, collection FROM collection_repo WHERE actor = %s", (actor,)
    )
    return {(found, collection) for found, collection in rows}


def list_holders(conn: Conn, collection: int, *, limit: int, after: int) -> Holders:
    """Return the next active accounts with a record of a collection, by actor.

    A page costs the same wherever it begins. One of a collection that few of the next
    accounts hold may have fewer than `limit`.
    """
    query = _WALK if collection in COMMON else _LIST
    found: list[Holder] = []
    most = limit + 1
    for _ in range(_ROUNDS):
        rows = conn.execute(
            query,
            {"collection": collection, "after": after, "most": most},
        ).fetchall()
        for actor, did, is_shown in rows:
            if is_shown:
                if len(found) == limit:
                    return Holders(found, found[-1].actor)
                found.append(Holder(actor, did))
        if len(rows) < most:
            return Holders(found, None)
        after = rows[-1][0]
        most = max(limit + 1, min(2 * most, _MOST_WALKED))
    return Holders(found, after)


_ACTIVE: Final = f"a.upstream_status = '{STATUS_ACTIVE}' AND a.takedown IS NULL"
_LIST: Final = f"""
    WITH walked AS MATERIALIZED (
        SELECT actor FROM collection_repo
        WHERE collection = %(collection)s AND actor > %(after)s
        ORDER BY actor LIMIT %(most)s
    )
    SELECT w.actor, a.did, {_ACTIVE}
    FROM walked w JOIN actor a ON a.id = w.actor ORDER BY w.actor
"""
_WALK: Final = f"""
    WITH walked AS MATERIALIZED (
        SELECT actor FROM repo WHERE actor > %(after)s ORDER BY actor LIMIT %(most)s
    )
    SELECT w.actor, a.did, {_ACTIVE} AND EXISTS (
        SELECT FROM record r
        WHERE r.actor = w.actor AND r.collection = %(collection)s)
    FROM walked w JOIN actor a ON a.id = w.actor ORDER BY w.actor
"""
