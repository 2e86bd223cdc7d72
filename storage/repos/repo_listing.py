"""Records of one repo: its collections, and pages of one by record key.

The ids of TIDs sort as their texts; other keys are sorted by text.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

from protocol.syntax import tid_from_int
from storage.postgres.pool import Conn

_FIRST: Final = -(2**63)
_LAST: Final = 2**63 - 1


class Key(NamedTuple):
    """A record key: its text and its id."""

    text: str
    rkey: int


class Position(NamedTuple):
    """The place after a key: the key, and the last TID before or at it, if any."""

    text: str
    tid: int | None


def list_collections(conn: Conn, actor: int) -> list[str]:
    """Return the collections of a repo by name, by one index probe each."""
    rows = conn.execute(
        """
        WITH RECURSIVE used AS (
            SELECT (SELECT min(collection) FROM record WHERE actor = %(actor)s) AS id
            UNION ALL
            SELECT (SELECT min(collection) FROM record
                    WHERE actor = %(actor)s AND collection > used.id)
            FROM used WHERE used.id IS NOT NULL
        )
        SELECT nsid FROM used JOIN collection USING (id)
        """,
        {"actor": actor},
    )
    return sorted(nsid for (nsid,) in rows)


def list_keys(
    conn: Conn,
    actor: int,
    collection: int,
    *,
    limit: int,
    ascending: bool,
    after: Position | None,
) -> list[Key]:
    """Return the next keys of a collection, the last first unless `ascending`."""
    order, sign = ("ASC", ">") if ascending else ("DESC", "<")
    tid = after.tid if after else None
    if tid is None:
        tid = _FIRST if ascending else _LAST
    tids = conn.execute(
        f"""
        SELECT rkey FROM record
        WHERE actor = %s AND collection = %s AND rkey > 0 AND rkey {sign} %s
        ORDER BY rkey {order} LIMIT %s
        """,
        (actor, collection, tid, limit),
    )
    texts = conn.execute(
        f"""
        SELECT k.text, k.id FROM record r JOIN rkey k ON k.id = r.rkey
        WHERE r.actor = %(actor)s AND r.collection = %(collection)s AND r.rkey < 0
          AND (%(after)s::text IS NULL OR k.text COLLATE "C" {sign} %(after)s)
        ORDER BY k.text COLLATE "C" {order} LIMIT %(limit)s
        """,
        {
            "actor": actor,
            "collection": collection,
            "after": after.text if after else None,
            "limit": limit,
        },
    )
    merged = heapq.merge(
        [Key(tid_from_int(rkey), rkey) for (rkey,) in tids.fetchall()],
        [Key(text, rkey) for text, rkey in texts.fetchall()],
        key=lambda key: key.text,
        reverse=not ascending,
    )
    return [*islice(merged, limit)]


def position_after(keys: Sequence[Key], before: Position | None) -> Position:
    """Return the place after the last of these keys, which follow `before`."""
    tids = [key.rkey for key in keys if key.rkey > 0]
    tid = tids[-1] if tids else before.tid if before else None
    return Position(keys[-1].text, tid)
