"""The most popular accounts, feed generators and starter packs, as of a moment.

Counts change while a client reads pages. A list is therefore written down at times, and
a cursor stays with the generation that it began with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from storage.collections import (
    COLLECTION_IDS,
    FEED_GENERATOR,
    GRAPH_STARTERPACK,
    NO_COLLECTION,
)
from storage.postgres.pool import Conn

MAX_PLACES: Final = 1_000
FRESH_S: Final = 900
"""Seconds between two refreshes of long lists."""
_SHORT: Final = 100
"""Places of lists that cost little, and are refreshed each time."""
KEPT_S: Final = 7_200
"""Seconds that a list serves cursors after the next one."""
_GENERATOR: Final = COLLECTION_IDS[FEED_GENERATOR]
_STARTER_PACK: Final = COLLECTION_IDS[GRAPH_STARTERPACK]

_QUERIES: Final[dict[int, str]] = {
    NO_COLLECTION: """
        SELECT actor, 0::int8 AS rkey, followers AS score FROM actor_stats
        WHERE followers > 0
    """,
    # Feeds of services without a repo have likes, and no row.
    _GENERATOR: f"""
        SELECT actor, rkey, likes AS score FROM subject_stats
        WHERE collection = {_GENERATOR} AND likes > 0
        UNION ALL
        SELECT actor, rkey, 0 FROM feed_generator g WHERE NOT EXISTS (
            SELECT FROM subject_stats s WHERE s.actor = g.actor AND s.rkey = g.rkey
              AND s.collection = {_GENERATOR} AND s.likes > 0)
    """,
    # One of each creator: the newest.
    _STARTER_PACK: """
        SELECT p.actor, max(p.rkey) AS rkey, coalesce(max(s.followers), 0) AS score
        FROM starter_pack p LEFT JOIN actor_stats s USING (actor) GROUP BY p.actor
    """,
}


class Popular(NamedTuple):
    """An account (`rkey` 0) or a record; the next page begins after its place."""

    actor: int
    rkey: int
    generation: int
    place: int


def refresh_popular(conn: Conn, now_s: int) -> int:
    """Write new lists unless there are long ones that are fresh; return their size.

    Does not commit.
    """
    newest, size = _newest(conn)
    if newest is not None and size > _SHORT and now_s - newest < FRESH_S:
        return 0
    conn.execute("DELETE FROM popular WHERE generation < %s", (now_s - KEPT_S,))
    written = 0
    for collection, query in _QUERIES.items():
        written += conn.execute(
            f"""
            INSERT INTO popular (collection, generation, place, actor, rkey)
            SELECT %(collection)s, %(now)s, row_number() OVER (
                ORDER BY score DESC, actor, rkey), actor, rkey
            FROM (SELECT * FROM ({query}) AS scored
                  ORDER BY score DESC, actor, rkey LIMIT %(most)s) AS best
            ON CONFLICT DO NOTHING
            """,
            {"collection": collection, "now": now_s, "most": MAX_PLACES},
        ).rowcount
    return written


def find_popular(
    conn: Conn, collection: int, *, limit: int, after: Sequence[int] | None = None
) -> list[Popular]:
    """Return a page of a list; `after` is (generation, place) of the entry before.

    Collection 0 is of accounts. A forgotten list continues at its place in the newest.
    """
    generation, place = after or (None, 0)
    if generation is None or not _exists(conn, generation):
        generation, _ = _newest(conn)
    if generation is None:
        return _read_now(conn, collection, limit, place)
    rows = conn.execute(
        "SELECT actor, rkey, generation, place FROM popular"
        " WHERE collection = %s AND generation = %s AND place > %s"
        " ORDER BY place LIMIT %s",
        (collection, generation, place, limit),
    )
    return [Popular(*row) for row in rows]


def _read_now(conn: Conn, collection: int, limit: int, place: int) -> list[Popular]:
    """Return a page of the order of this moment: no list was written yet."""
    rows = conn.execute(
        f"SELECT actor, rkey FROM ({_QUERIES[collection]}) AS scored"
        " ORDER BY score DESC, actor, rkey LIMIT %s OFFSET %s",
        (min(limit, max(0, MAX_PLACES - place)), place),
    ).fetchall()
    return [
        Popular(actor, rkey, 0, place + n) for n, (actor, rkey) in enumerate(rows, 1)
    ]


def _newest(conn: Conn) -> tuple[int | None, int]:
    """Return the newest generation, and the places of its longest list."""
    row = conn.execute(
        "SELECT generation, max(place) FROM popular"
        " WHERE generation = (SELECT max(generation) FROM popular)"
        " GROUP BY generation"
    ).fetchone()
    return row or (None, 0)


def _exists(conn: Conn, generation: int) -> bool:
    found = conn.execute(
        "SELECT FROM popular WHERE generation = %s LIMIT 1", (generation,)
    )
    return found.fetchone() is not None
