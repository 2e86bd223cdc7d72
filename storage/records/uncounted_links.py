"""Edges that do not count: repeated ones, and those to a deleted and recreated post.

An account counts once for a subject, as in the reference, however many records it has.
The table of edges holds the counted one, so that counts and lists agree. The others are
kept here until it is deleted. `stale` edges, to an earlier post, never count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from storage.collections import (
    BLOCK_SUBJECT,
    FOLLOW_SUBJECT,
    LIKE_SUBJECT,
    LISTBLOCK_SUBJECT,
    REPOST_SUBJECT,
)
from storage.postgres.arrays import int_columns
from storage.postgres.copy import copy_packed
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn
from storage.records.links import (
    COLUMNS,
    PARTITION_OF,
    LinkRow,
    LinkTuple,
    link_subject,
    unpack_link,
)

COUNTED_ONCE: Final = frozenset(
    (LIKE_SUBJECT, REPOST_SUBJECT, FOLLOW_SUBJECT, BLOCK_SUBJECT, LISTBLOCK_SUBJECT)
)
"""Paths of which an account has one counted edge to a subject."""
PARTITIONS: Final = {PARTITION_OF[path]: path for path in sorted(COUNTED_ONCE)}

TABLE: Final = "uncounted_link"
_SUBJECT: Final = "actor, target_actor, target_rkey, target_collection, path"
_ROW: Final = ", ".join(f"u.{name}" for name in LinkRow._fields)


def set_apart(
    conn: Conn, partition: str, packed: Sequence[bytes], *, fresh: bool
) -> tuple[list[bytes], list[LinkRow]]:
    """Store the new edges that do not count; of several the first key counts.

    Returns the counted ones, packed, and the rows of the others. With `fresh`, the
    accounts have no edges yet: only the new edges are compared.
    """
    first: dict[bytes, bytes] = {}
    aside: list[bytes] = []
    for row in packed:
        subject = link_subject(row)
        held_row = first.setdefault(subject, row)
        if held_row is not row:
            # A packed row begins with its record key.
            first[subject], later = sorted((held_row, row))
            aside.append(later)
    counted = list(first.values())
    if not fresh and counted:
        held = _find_held(conn, partition, [unpack_link(row)[0] for row in counted])
        if held:
            aside += [counted[place] for place in held]
            passed_over = set(held)
            counted = [
                row for place, row in enumerate(counted) if place not in passed_over
            ]
    copy_packed(conn, TABLE, COLUMNS, aside)
    return counted, [unpack_link(row)[0] for row in aside]


def _find_held(conn: Conn, partition: str, rows: Sequence[LinkRow]) -> list[int]:
    """Return positions of edges whose account already has an edge to the subject."""
    found = conn.execute(
        f"""
        SELECT d.place - 1 FROM unnest(
            %s::int8[], %s::int4[], %s::int4[], %s::int4[]
        ) WITH ORDINALITY AS d (target_rkey, actor, target_actor, collection, place)
        WHERE EXISTS (
            SELECT FROM {partition} l
            WHERE l.target_rkey = d.target_rkey AND l.target_actor = d.target_actor
              AND l.actor = d.actor AND l.target_collection = d.collection)
        """,
        int_columns([row[1:5] for row in rows], 4),
    )
    return [place for (place,) in found]


def delete_uncounted(conn: Conn, rows: Sequence[LinkTuple]) -> None:
    """Remove exactly these uncounted edges."""
    if not rows:
        return
    conn.execute(
        """
        DELETE FROM uncounted_link u USING unnest(
            %s::int8[], %s::int8[], %s::int4[], %s::int4[], %s::int4[], %s::int4[]
        ) AS d (rkey, target_rkey, actor, target_actor, target_collection, path)
        WHERE u.actor = d.actor AND u.target_actor = d.target_actor
          AND u.target_rkey = d.target_rkey AND u.rkey = d.rkey AND u.path = d.path
          AND u.target_collection = d.target_collection
        """,
        int_columns(rows, 6),
    )


def promote(conn: Conn, removed: Sequence[LinkTuple]) -> list[LinkRow]:
    """Count the next edge for each counted one that was removed; return those."""
    subjects = {row[1:] for row in removed if row[5] in COUNTED_ONCE}
    if not subjects:
        return []
    found = conn.execute(
        f"""
        WITH next AS (
            SELECT u.* FROM unnest(
                %s::int8[], %s::int4[], %s::int4[], %s::int4[], %s::int4[]
            ) AS d (target_rkey, actor, target_actor, target_collection, path)
            CROSS JOIN LATERAL (
                SELECT {_SUBJECT}, rkey FROM uncounted_link u
                WHERE u.actor = d.actor AND u.target_actor = d.target_actor
                  AND u.target_rkey = d.target_rkey AND u.path = d.path
                  AND u.target_collection = d.target_collection AND NOT u.stale
                ORDER BY u.rkey LIMIT 1
            ) u
        ), moved AS (
            DELETE FROM uncounted_link u USING next n
            WHERE u.actor = n.actor AND u.target_actor = n.target_actor
              AND u.target_rkey = n.target_rkey AND u.rkey = n.rkey
              AND u.path = n.path AND u.target_collection = n.target_collection
            RETURNING u.*
        )
        INSERT INTO link AS u ({", ".join(COLUMNS)})
        SELECT {", ".join(COLUMNS)} FROM moved RETURNING {_ROW}
        """,
        int_columns(sorted(subjects), 5),
    )
    return [LinkRow._make(row) for row in found]


def make_stale(conn: Conn, rows: Sequence[LinkTuple], packed: Sequence[bytes]) -> None:
    """Store removed edges and uncounted ones to an earlier post as stale.

    `packed` are the edges of `rows`, which were removed from the counted ones.
    """
    copy_packed(conn, TABLE, COLUMNS, packed)
    conn.execute(
        """
        UPDATE uncounted_link u SET stale = true FROM unnest(
            %s::int8[], %s::int4[], %s::int4[], %s::int4[], %s::int4[]
        ) AS d (target_rkey, actor, target_actor, target_collection, path)
        WHERE u.actor = d.actor AND u.target_actor = d.target_actor
          AND u.target_rkey = d.target_rkey AND u.path = d.path
          AND u.target_collection = d.target_collection
        """,
        int_columns([row[1:] for row in rows], 5),
    )


def find_aside(conn: Conn, partition: str, rows: Sequence[LinkRow]) -> int:
    """Return the number of edges that are correctly stored as uncounted.

    Each is named once. It must be stored once, and be stale or have a counted edge to
    its subject.
    """
    return fetch_int(
        conn,
        f"""
        SELECT count(*) FROM (
            SELECT FROM unnest(
                %s::int8[], %s::int8[], %s::int4[], %s::int4[], %s::int4[], %s::int4[]
            ) WITH ORDINALITY AS d (
                rkey, target_rkey, actor, target_actor, target_collection, path, place
            )
            JOIN uncounted_link u
              ON u.actor = d.actor AND u.target_actor = d.target_actor
              AND u.target_rkey = d.target_rkey AND u.rkey = d.rkey
              AND u.path = d.path AND u.target_collection = d.target_collection
            GROUP BY d.place
            HAVING count(*) = 1 AND bool_and(u.stale OR EXISTS (
                SELECT FROM {partition} l
                WHERE l.target_rkey = u.target_rkey AND l.actor = u.actor
                  AND l.target_actor = u.target_actor AND l.path = u.path
                  AND l.target_collection = u.target_collection))
        ) AS found
        """,
        int_columns(rows, 6),
    )


def count_uncounted_of(conn: Conn, actor: int) -> dict[str, int]:
    """Return partition -> uncounted edges of an account."""
    rows = conn.execute(
        "SELECT path, count(*) FROM uncounted_link WHERE actor = %s GROUP BY 1",
        (actor,),
    )
    found: dict[str, int] = {}
    for path, number in rows:
        partition = PARTITION_OF[path]
        found[partition] = found.get(partition, 0) + number
    return found
