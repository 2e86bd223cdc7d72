"""Lists and starter packs of an account, members of a list, and blocked lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from appview.hydration.blocks import MAX_BLOCK_LISTS
from appview.hydration.records import LIST, STARTER_PACK
from appview.paging import Entry, Keyset
from appview.pipeline import Params
from storage.collections import LISTBLOCK_SUBJECT
from storage.postgres.arrays import int_columns
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import partition_of

_DEFS: Final = "app.bsky.graph.defs#"
_PURPOSES: Final = ("modlist", "curatelist")
_SHOWN_AT: Final = "least(created_at, indexed_at)"


class Member(NamedTuple):
    """An account on a list, by the record key of its item.

    `repeated`: an older item of the list has the same account.
    """

    rkey: int
    actor: int
    repeated: bool = False


def purposes_of(params: Params) -> list[str]:
    """Return the purposes in `purposes` that clients list, by default all of them."""
    asked: list[str] = params.get("purposes") or [*_PURPOSES]
    tokens = {text.removeprefix(_DEFS) for text in asked}
    return [f"{_DEFS}{purpose}" for purpose in _PURPOSES if purpose in tokens]


def find_lists(
    conn: Conn,
    actor: int,
    purposes: Sequence[str],
    after: Keyset | None,
    limit: int,
) -> list[Entry[Address]]:
    """Return lists of an account that have one of these purposes, newest first."""
    keyset = f"AND ({_SHOWN_AT}, rkey) < (%(at)s, %(rkey)s)" if after else ""
    rows = conn.execute(
        f"""
        SELECT found.rkey, {micros_sql("found.shown_at")}
        FROM unnest(%(purposes)s::text[]) AS wanted (purpose)
        CROSS JOIN LATERAL (
            SELECT rkey, {_SHOWN_AT} AS shown_at FROM list
            WHERE actor = %(actor)s AND purpose = wanted.purpose {keyset}
            ORDER BY {_SHOWN_AT} DESC, rkey DESC LIMIT %(limit)s
        ) found
        ORDER BY found.shown_at DESC, found.rkey DESC LIMIT %(limit)s
        """,
        {"actor": actor, "purposes": purposes, **_position(after), "limit": limit},
    )
    return [Entry(Address(actor, LIST, rkey), [at, rkey]) for rkey, at in rows]


def find_packs(
    conn: Conn, actor: int, after: Keyset | None, limit: int
) -> list[Entry[Address]]:
    """Return starter packs of an account, newest first."""
    keyset = f"AND ({_SHOWN_AT}, rkey) < (%(at)s, %(rkey)s)" if after else ""
    rows = conn.execute(
        f"""
        SELECT rkey, {micros_sql(_SHOWN_AT)} FROM starter_pack
        WHERE actor = %(actor)s {keyset}
        ORDER BY {_SHOWN_AT} DESC, rkey DESC LIMIT %(limit)s
        """,
        {"actor": actor, **_position(after), "limit": limit},
    )
    return [Entry(Address(actor, STARTER_PACK, rkey), [at, rkey]) for rkey, at in rows]


def _position(after: Keyset | None) -> dict[str, Any]:
    return {"at": from_micros(after[0]), "rkey": after[1]} if after else {}


def find_members(
    conn: Conn, held: Address, after: Keyset | None, limit: int
) -> list[Entry[Member]]:
    """Return the items of a list, the highest record key first."""
    keyset = "AND i.rkey < %s" if after else ""
    rows = conn.execute(
        f"""
        SELECT i.rkey, i.subject, EXISTS (
            SELECT FROM list_item o
            WHERE o.subject = i.subject AND o.list_actor = i.list_actor
              AND o.list_rkey = i.list_rkey AND o.rkey < i.rkey)
        FROM list_item i WHERE i.list_actor = %s AND i.list_rkey = %s {keyset}
        ORDER BY i.rkey DESC LIMIT %s
        """,
        (held.actor, held.rkey, *(after or ()), limit),
    )
    return [Entry(Member(*row), [row[0]]) for row in rows]


def find_memberships(
    conn: Conn, lists: Collection[Address], actor: int
) -> dict[Address, int]:
    """Return list -> record key of the item that has an account."""
    rows = conn.execute(
        """
        SELECT i.list_actor, i.list_rkey, min(i.rkey)
        FROM unnest(%s::int4[], %s::int8[]) AS x (a, k)
        JOIN list_item i
          ON i.subject = %s AND i.list_actor = x.a AND i.list_rkey = x.k
        GROUP BY i.list_actor, i.list_rkey
        """,
        (*int_columns([(held.actor, held.rkey) for held in lists], 2), actor),
    )
    return {Address(owner, LIST, key): rkey for owner, key, rkey in rows}


def find_blocked_lists(
    conn: Conn, actor: int, after: Keyset | None, limit: int
) -> list[Entry[Address]]:
    """Return the lists by which an account blocks, the newest list first.

    Of its blocks the newest MAX_BLOCK_LISTS have an effect; only those are read.
    """
    keyset = (
        "WHERE (list.created_at, b.owner, b.rkey) < (%(at)s, %(owner)s, %(rkey)s)"
        if after
        else ""
    )
    rows = conn.execute(
        f"""
        SELECT b.owner, b.rkey, {micros_sql("list.created_at")}
        FROM (
            SELECT DISTINCT newest.owner, newest.rkey FROM (
                SELECT l.target_actor AS owner, l.target_rkey AS rkey
                FROM {partition_of(LISTBLOCK_SUBJECT)} l
                WHERE l.actor = %(actor)s AND l.path = {LISTBLOCK_SUBJECT}
                  AND l.target_collection = {LIST}
                ORDER BY l.rkey DESC LIMIT {MAX_BLOCK_LISTS}
            ) newest
        ) b
        JOIN list ON list.actor = b.owner AND list.rkey = b.rkey
        {keyset}
        ORDER BY list.created_at DESC, b.owner DESC, b.rkey DESC LIMIT %(limit)s
        """,
        {
            "actor": actor,
            **(
                {"at": from_micros(after[0]), "owner": after[1], "rkey": after[2]}
                if after
                else {}
            ),
            "limit": limit,
        },
    )
    return [
        Entry(Address(owner, LIST, rkey), [at, owner, rkey]) for owner, rkey, at in rows
    ]
