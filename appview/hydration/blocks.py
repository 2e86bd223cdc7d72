"""Blocks by record and by list: one query of each kind for all pairs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from storage.collections import (
    BLOCK_SUBJECT,
    COLLECTION_IDS,
    GRAPH_LIST,
    LISTBLOCK_SUBJECT,
    NO_RKEY,
)
from storage.postgres.arrays import int_columns
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import partition_of
from storage.states import STATUS_ACTIVE

MODERATION_LIST: Final = "app.bsky.graph.defs#modlist"
MAX_BLOCK_LISTS: Final = 1_000
"""Newest block lists of an account that count, so that many of them do not slow every
page with that account."""
_LIST: Final = COLLECTION_IDS[GRAPH_LIST]

Pair = tuple[int, int]
"""Two accounts: the first blocks the second."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of one account by another: its record key, or the list."""

    record: int | None = None
    list: Address | None = None


def load_blocks(conn: Conn, pairs: Collection[Pair]) -> dict[Pair, Block]:
    """Return the blocks among `pairs`, in the direction of each pair."""
    wanted = [(a, b) for a, b in pairs if a != b]
    if not wanted:
        return {}
    records = _load_records(conn, wanted)
    lists = _load_lists(conn, wanted)
    return {
        pair: Block(records.get(pair), lists.get(pair))
        for pair in records.keys() | lists.keys()
    }


def _load_records(conn: Conn, pairs: Sequence[Pair]) -> dict[Pair, int]:
    rows = conn.execute(
        f"""
        SELECT l.actor, l.target_actor, l.rkey
        FROM unnest(%s::int4[], %s::int4[]) AS x (a, b)
        JOIN {partition_of(BLOCK_SUBJECT)} l
          ON l.actor = x.a AND l.target_actor = x.b
        WHERE l.path = %s AND l.target_rkey = %s
        """,
        (*int_columns(pairs, 2), BLOCK_SUBJECT, NO_RKEY),
    )
    return {(a, b): rkey for a, b, rkey in rows}


def _load_lists(conn: Conn, pairs: Sequence[Pair]) -> dict[Pair, Address]:
    """Return the list by which the first of each pair blocks the second.

    A list counts while it exists, is a moderation list, and its owner is shown.
    """
    rows = conn.execute(
        f"""
        WITH pair AS MATERIALIZED (
            SELECT * FROM unnest(%(a)s::int4[], %(b)s::int4[]) AS x (a, b)
        ), blocked AS MATERIALIZED (
            SELECT s.a, s.list_actor, s.list_rkey
            FROM (SELECT DISTINCT a FROM pair) AS blocker
            CROSS JOIN LATERAL (
                SELECT l.actor AS a, l.target_actor AS list_actor,
                       l.target_rkey AS list_rkey
                FROM {partition_of(LISTBLOCK_SUBJECT)} l
                WHERE l.actor = blocker.a AND l.path = %(path)s
                  AND l.target_collection = %(collection)s
                ORDER BY l.rkey DESC LIMIT %(most)s
            ) AS s
            JOIN list ON list.actor = s.list_actor AND list.rkey = s.list_rkey
            JOIN actor AS owner ON owner.id = s.list_actor
            WHERE list.purpose = %(purpose)s AND owner.takedown IS NULL
              AND owner.upstream_status = %(active)s
        )
        SELECT DISTINCT pair.a, pair.b, blocked.list_actor, blocked.list_rkey
        FROM blocked JOIN pair USING (a)
        JOIN list_item i ON i.subject = pair.b
          AND i.list_actor = blocked.list_actor AND i.list_rkey = blocked.list_rkey
        """,
        {
            "a": [a for a, _ in pairs],
            "b": [b for _, b in pairs],
            "path": LISTBLOCK_SUBJECT,
            "collection": _LIST,
            "purpose": MODERATION_LIST,
            "active": STATUS_ACTIVE,
            "most": MAX_BLOCK_LISTS,
        },
    )
    return {(a, b): Address(owner, _LIST, rkey) for a, b, owner, rkey in rows}
