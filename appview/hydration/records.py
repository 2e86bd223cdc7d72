"""Records and the rows beside them: posts with counts, feeds, lists, starter packs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from protocol.cbor import Value, decode
from protocol.cid import cid_for, cid_to_text
from protocol.errors import ProtocolError
from storage.collections import (
    COLLECTION_IDS,
    FEED_GENERATOR,
    FEED_POST,
    GRAPH_LIST,
    GRAPH_STARTERPACK,
    LIKE_SUBJECT,
    REPOST_SUBJECT,
)
from storage.documents import Address
from storage.record_allowance import HELD, Allowance, Held

POST = COLLECTION_IDS[FEED_POST]
GENERATOR = COLLECTION_IDS[FEED_GENERATOR]
LIST = COLLECTION_IDS[GRAPH_LIST]
STARTER_PACK = COLLECTION_IDS[GRAPH_STARTERPACK]


@dataclass(frozen=True, slots=True)
class Record:
    """A record as its author signed it."""

    address: Address
    cid: str
    value: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Post:
    """A post, its place in a thread and its counts."""

    record: Record
    sort_at: datetime
    indexed_at: datetime
    parent: Address | None
    root: Address | None
    likes: int
    reposts: int
    replies: int
    quotes: int


@dataclass(frozen=True, slots=True)
class Named:
    """A feed generator, list or starter pack: what their rows have in common."""

    record: Record
    indexed_at: datetime
    likes: int
    items: int


@dataclass(frozen=True, slots=True)
class Reaction:
    """The viewer's own like and repost of a post, as record keys."""

    like: int | None = None
    repost: int | None = None


def _columns(addresses: Collection[Address]) -> list[list[int]]:
    return [
        [a.actor for a in addresses],
        [a.collection for a in addresses],
        [a.rkey for a in addresses],
    ]


def read_record(address: Address, block: bytes) -> Record | None:
    """The record of its exact bytes; None if it is no map, or not to be read at all
    (nothing can show that)."""
    try:
        value = decode(block)
    except ProtocolError:
        return None
    if not isinstance(value, dict):
        return None
    return Record(address, cid_to_text(cid_for(block)), value)


def load_records(
    conn: psycopg.Connection[Any], addresses: Collection[Address], allowance: Allowance
) -> dict[Address, Record]:
    """Records by address; unknown ones, and those beyond the allowance, are absent."""
    rows = conn.execute(
        f"""
        SELECT r.actor, r.collection, r.rkey, {HELD}
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, k)
        JOIN record r ON r.actor = x.a AND r.collection = x.c AND r.rkey = x.k
        """,
        _columns(addresses),
    )
    held = (Held(Address(*row[:3]), *row[3:]) for row in rows)
    return _read(conn, allowance, held)


def _read(
    conn: psycopg.Connection[Any], allowance: Allowance, rows: Iterable[Held]
) -> dict[Address, Record]:
    found: dict[Address, Record] = {}
    for row, block in allowance.read(conn, rows):
        record = read_record(row.address, block)
        if record is not None and allowance.take(record.value):
            found[row.address] = record
    return found


def load_posts(
    conn: psycopg.Connection[Any], addresses: Collection[Address], allowance: Allowance
) -> dict[Address, Post]:
    """Posts by address, with the counts kept beside them."""
    rows = conn.execute(
        f"""
        SELECT p.actor, p.rkey, p.sort_at, p.indexed_at,
               p.parent_actor, p.parent_rkey, p.root_actor, p.root_rkey,
               coalesce(s.likes, 0), coalesce(s.reposts, 0),
               coalesce(s.replies, 0), coalesce(s.quotes, 0), {HELD}
        FROM unnest(%s::int4[], %s::int8[]) AS x(a, k)
        JOIN post p ON p.actor = x.a AND p.rkey = x.k
        JOIN record r
          ON r.actor = x.a AND r.collection = %s AND r.rkey = x.k
        LEFT JOIN post_stats s ON s.actor = x.a AND s.rkey = x.k
        """,
        ([a.actor for a in addresses], [a.rkey for a in addresses], POST),
    ).fetchall()
    held = (Held(Address(row[0], POST, row[1]), *row[-3:]) for row in rows)
    records = _read(conn, allowance, held)
    found: dict[Address, Post] = {}
    for actor, rkey, sort_at, indexed_at, pa, pr, ra, rr, *counts, _, _, _ in rows:
        record = records.get(Address(actor, POST, rkey))
        if record is None:
            continue
        parent = Address(pa, POST, pr) if pa is not None and pr is not None else None
        root = Address(ra, POST, rr) if ra is not None and rr is not None else None
        found[record.address] = Post(record, sort_at, indexed_at, parent, root, *counts)
    return found


def load_named(
    conn: psycopg.Connection[Any], addresses: Collection[Address], allowance: Allowance
) -> dict[Address, Named]:
    """Feed generators, lists and starter packs by address."""
    rows = conn.execute(
        f"""
        SELECT r.actor, r.collection, r.rkey,
               coalesce(g.indexed_at, l.indexed_at, p.indexed_at),
               coalesce(s.likes, 0),
               CASE WHEN l.actor IS NOT NULL THEN
                   (SELECT count(DISTINCT i.subject) FROM list_item i
                    WHERE i.list_actor = r.actor AND i.list_rkey = r.rkey)
               ELSE 0 END, {HELD}
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, k)
        JOIN record r ON r.actor = x.a AND r.collection = x.c AND r.rkey = x.k
        LEFT JOIN feed_generator g
          ON r.collection = %s AND g.actor = x.a AND g.rkey = x.k
        LEFT JOIN list l ON r.collection = %s AND l.actor = x.a AND l.rkey = x.k
        LEFT JOIN starter_pack p ON r.collection = %s AND p.actor = x.a AND p.rkey = x.k
        LEFT JOIN subject_stats s
          ON s.actor = x.a AND s.collection = x.c AND s.rkey = x.k
        WHERE coalesce(g.indexed_at, l.indexed_at, p.indexed_at) IS NOT NULL
        """,
        (*_columns(addresses), GENERATOR, LIST, STARTER_PACK),
    ).fetchall()
    held = (Held(Address(*row[:3]), *row[-3:]) for row in rows)
    records = _read(conn, allowance, held)
    found: dict[Address, Named] = {}
    for actor, collection, rkey, indexed_at, likes, items, _, _, _ in rows:
        record = records.get(Address(actor, collection, rkey))
        if record is not None:
            found[record.address] = Named(record, indexed_at, likes, items)
    return found


def load_reactions(
    conn: psycopg.Connection[Any], viewer: int, addresses: Collection[Address]
) -> dict[Address, Reaction]:
    """What the viewer liked and reposted among these posts."""
    rows = conn.execute(
        """
        SELECT l.path, l.target_actor, l.target_rkey, l.rkey
        FROM unnest(%s::int4[], %s::int8[]) AS x(a, k)
        JOIN link l ON l.target_rkey = x.k AND l.target_actor = x.a AND l.actor = %s
        WHERE l.path IN (%s, %s) AND l.target_collection = %s
        """,
        (
            [a.actor for a in addresses],
            [a.rkey for a in addresses],
            viewer,
            LIKE_SUBJECT,
            REPOST_SUBJECT,
            POST,
        ),
    )
    likes: dict[Address, int] = {}
    reposts: dict[Address, int] = {}
    for path, actor, rkey, own in rows:
        kind = likes if path == LIKE_SUBJECT else reposts
        kind[Address(actor, POST, rkey)] = own
    return {
        address: Reaction(likes.get(address), reposts.get(address))
        for address in likes.keys() | reposts.keys()
    }
