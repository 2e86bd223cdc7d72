"""Records and the rows beside them: posts, feeds, lists, starter packs, labelers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Final, NamedTuple

from appview.hydration.record_cache import RecordCache
from feeds.opt_outs import VISIBILITY_DECLARATION
from protocol.data.cbor import Value, decode
from protocol.data.cid import cid_for, cid_to_text
from protocol.data.json_form import to_json
from protocol.errors import ProtocolError
from storage.collections import (
    ACTOR_PROFILE,
    ACTOR_STATUS,
    COLLECTION_IDS,
    FEED_GENERATOR,
    FEED_LIKE,
    FEED_POST,
    GRAPH_LIST,
    GRAPH_STARTERPACK,
    LABELER_SERVICE,
    LIKE_SUBJECT,
    LISTBLOCK_SUBJECT,
    REPOST_SUBJECT,
    RKEY_SELF,
)
from storage.postgres.arrays import int_columns
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.links import DEFAULT_PARTITION
from storage.records.record_allowance import (
    HELD,
    Allowance,
    Held,
    count_items,
    read_block,
)

POST = COLLECTION_IDS[FEED_POST]
LIKE = COLLECTION_IDS[FEED_LIKE]
GENERATOR = COLLECTION_IDS[FEED_GENERATOR]
LIST = COLLECTION_IDS[GRAPH_LIST]
STARTER_PACK = COLLECTION_IDS[GRAPH_STARTERPACK]
LABELER = COLLECTION_IDS[LABELER_SERVICE]
CHAT_DECLARATION = "chat.bsky.actor.declaration"
NOTIFICATION_DECLARATION = "app.bsky.notification.declaration"
GERM_DECLARATION = "com.germnetwork.declaration"
MAX_COUNTED_JOINS = 10_000
MAX_COUNTED_ITEMS = 500
"""Items of a list up to which an account on it twice counts once."""
DECLARATIONS = (
    CHAT_DECLARATION,
    NOTIFICATION_DECLARATION,
    VISIBILITY_DECLARATION,
    GERM_DECLARATION,
    ACTOR_STATUS,
)
"""Records with the key `self` that say how an account is shown."""


@dataclass(frozen=True)
class Record:
    """A record as its author signed it; `size` is the bytes of its block.

    Requests share it: neither `value` nor `json` may be changed.
    """

    address: Address
    cid: str
    value: dict[str, Value]
    size: int = 0
    items: int = 0
    """Values inside `value`, for the allowance of an answer."""

    @cached_property
    def json(self) -> Any:
        """Return the value in JSON form, made once."""
        return to_json(self.value)


@dataclass(frozen=True, slots=True)
class Post:
    """A post, its place in a thread and its counts."""

    record: Record
    sort_at: datetime
    parent: Address | None
    root: Address | None
    likes: int
    reposts: int
    replies: int
    quotes: int


@dataclass(frozen=True, slots=True)
class Repost:
    """A repost record."""

    cid: str
    sort_at: datetime


@dataclass(frozen=True, slots=True)
class Named:
    """A feed generator, list, starter pack or labeler, with its counts."""

    record: Record
    sort_at: datetime
    likes: int
    items: int
    joined: int = 0
    joined_this_week: int = 0


class Reaction(NamedTuple):
    """The viewer's like, repost and list block of a record, as record keys."""

    like: int | None = None
    repost: int | None = None
    block: int | None = None


_CACHE: Final = RecordCache[Record | None]()


def _key_columns(addresses: Iterable[Address]) -> list[str]:
    return int_columns([(a.actor, a.rkey) for a in addresses], 2)


def read_record(address: Address, block: bytes) -> Record | None:
    """Return the record in a block; None if it is no map or cannot be decoded."""
    try:
        value = decode(block)
    except ProtocolError:
        return None
    if not isinstance(value, dict):
        return None
    cid = cid_to_text(cid_for(block))
    return Record(address, cid, value, len(block), count_items(value))


def load_records(
    conn: Conn, addresses: Collection[Address], allowance: Allowance
) -> dict[Address, Record]:
    """Return records by address; those beyond the allowance are absent."""
    rows = conn.execute(
        f"""
        SELECT r.actor, r.collection, r.rkey, {HELD}
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, k)
        JOIN record r ON r.actor = x.a AND r.collection = x.c AND r.rkey = x.k
        """,
        int_columns([*addresses], 3),
    )
    held = (Held(Address(*row[:3]), *row[3:]) for row in rows)
    return _read(conn, allowance, held)


def _read(
    conn: Conn, allowance: Allowance, rows: Iterable[Held]
) -> dict[Address, Record]:
    found: dict[Address, Record] = {}
    for row, size in allowance.admit(rows):
        decode = partial(_decode, conn, row)
        record = _CACHE.read(row.address, row.stored, size, decode)
        if record is not None and allowance.take(record.items):
            found[row.address] = record
    return found


def _decode(conn: Conn, row: Held) -> Record | None:
    return read_record(row.address, read_block(conn, row))


def load_own_records(
    conn: Conn, actors: Collection[int], allowance: Allowance
) -> tuple[dict[Address, Record], dict[tuple[int, str], Record]]:
    """Return profiles by address, and declarations by account and collection."""
    rows = conn.execute(
        f"""
        SELECT c.nsid, r.actor, r.collection, r.rkey, {HELD}
        FROM unnest(%s::int4[]) AS x(a)
        CROSS JOIN collection c
        JOIN record r ON r.actor = x.a AND r.collection = c.id AND r.rkey = %s
        WHERE c.nsid = ANY(%s)
        """,
        ([*actors], RKEY_SELF, [ACTOR_PROFILE, *DECLARATIONS]),
    ).fetchall()
    names = {row[2]: row[0] for row in rows}
    held = (Held(Address(*row[1:4]), *row[4:]) for row in rows)
    profiles: dict[Address, Record] = {}
    declarations: dict[tuple[int, str], Record] = {}
    for address, record in _read(conn, allowance, held).items():
        name = names[address.collection]
        if name == ACTOR_PROFILE:
            profiles[address] = record
        else:
            declarations[address.actor, name] = record
    return profiles, declarations


def load_posts(
    conn: Conn, addresses: Collection[Address], allowance: Allowance
) -> dict[Address, Post]:
    """Return posts by address, with their counts."""
    rows = conn.execute(
        f"""
        SELECT p.actor, p.rkey, p.sort_at,
               p.parent_actor, p.parent_rkey, p.root_actor, p.root_rkey,
               coalesce(s.likes, 0), coalesce(s.reposts, 0),
               coalesce(s.replies, 0), coalesce(s.quotes, 0), {HELD}
        FROM unnest(%s::int4[], %s::int8[]) AS x(a, k)
        JOIN post p ON p.actor = x.a AND p.rkey = x.k
        JOIN record r
          ON r.actor = x.a AND r.collection = %s AND r.rkey = x.k
        LEFT JOIN post_stats s ON s.actor = x.a AND s.rkey = x.k
        """,
        (*_key_columns(addresses), POST),
    ).fetchall()
    held = (Held(Address(row[0], POST, row[1]), *row[-3:]) for row in rows)
    records = _read(conn, allowance, held)
    found: dict[Address, Post] = {}
    for actor, rkey, sort_at, pa, pr, ra, rr, *counts, _, _, _ in rows:
        record = records.get(Address(actor, POST, rkey))
        if record is None:
            continue
        parent = Address(pa, POST, pr) if pa is not None and pr is not None else None
        root = Address(ra, POST, rr) if ra is not None and rr is not None else None
        found[record.address] = Post(record, sort_at, parent, root, *counts)
    return found


def load_reposts(
    conn: Conn, reposts: Mapping[Address, Address], allowance: Allowance
) -> dict[Address, Repost]:
    """Return reposts by address. `reposts` maps each to the post it is to be of."""
    rows = conn.execute(
        f"""
        SELECT r.actor, r.collection, r.rkey, l.sort_at, {HELD}
        FROM unnest(%s::int4[], %s::int4[], %s::int8[], %s::int4[], %s::int8[])
          AS x(a, c, k, target, target_key)
        JOIN record r ON r.actor = x.a AND r.collection = x.c AND r.rkey = x.k
        JOIN link l ON l.target_rkey = x.target_key AND l.target_actor = x.target
          AND l.actor = x.a AND l.rkey = x.k
        WHERE l.path = %s AND l.target_collection = %s
        """,
        (
            *int_columns([*reposts], 3),
            *_key_columns(reposts.values()),
            REPOST_SUBJECT,
            POST,
        ),
    ).fetchall()
    times = {Address(*row[:3]): row[3] for row in rows}
    held = (Held(Address(*row[:3]), *row[4:]) for row in rows)
    return {
        address: Repost(record.cid, times[address])
        for address, record in _read(conn, allowance, held).items()
    }


def load_named(
    conn: Conn, addresses: Collection[Address], allowance: Allowance
) -> dict[Address, Named]:
    """Return feed generators, lists, starter packs and labelers by address."""
    rows = conn.execute(
        f"""
        SELECT r.actor, r.collection, r.rkey,
               coalesce(least(g.created_at, g.indexed_at),
                        least(l.created_at, l.indexed_at),
                        least(p.created_at, p.indexed_at),
                        least(b.created_at, b.indexed_at)) AS sort_at,
               coalesce(s.likes, 0),
               CASE WHEN s.items BETWEEN 1 AND {MAX_COUNTED_ITEMS} THEN
                   (SELECT count(DISTINCT i.subject) FROM list_item i
                    WHERE i.list_actor = r.actor AND i.list_rkey = r.rkey)
               ELSE coalesce(s.items, 0) END, {HELD}
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, k)
        JOIN record r ON r.actor = x.a AND r.collection = x.c AND r.rkey = x.k
        LEFT JOIN feed_generator g
          ON r.collection = %s AND g.actor = x.a AND g.rkey = x.k
        LEFT JOIN list l ON r.collection = %s AND l.actor = x.a AND l.rkey = x.k
        LEFT JOIN starter_pack p ON r.collection = %s AND p.actor = x.a AND p.rkey = x.k
        LEFT JOIN labeler b ON r.collection = %s AND b.actor = x.a AND x.k = %s
        LEFT JOIN subject_stats s
          ON s.actor = x.a AND s.collection = x.c AND s.rkey = x.k
        WHERE coalesce(g.indexed_at, l.indexed_at, p.indexed_at, b.indexed_at)
              IS NOT NULL
        """,
        (
            *int_columns([*addresses], 3),
            GENERATOR,
            LIST,
            STARTER_PACK,
            LABELER,
            RKEY_SELF,
        ),
    ).fetchall()
    held = (Held(Address(*row[:3]), *row[-3:]) for row in rows)
    records = _read(conn, allowance, held)
    joined = _count_joined(conn, [a for a in records if a.collection == STARTER_PACK])
    found: dict[Address, Named] = {}
    for actor, collection, rkey, sort_at, likes, items, _, _, _ in rows:
        record = records.get(Address(actor, collection, rkey))
        if record is not None:
            found[record.address] = Named(
                record, sort_at, likes, items, *joined.get(record.address, (0, 0))
            )
    return found


def _count_joined(
    conn: Conn, packs: Collection[Address]
) -> dict[Address, tuple[int, int]]:
    """Return the accounts that joined by each starter pack: ever, and this week.

    Of each pack at most MAX_COUNTED_JOINS are counted.
    """
    if not packs:
        return {}
    rows = conn.execute(
        f"""
        SELECT x.a, x.k, count(*),
               count(*) FILTER (
                   WHERE least(p.created_at, p.indexed_at) > now() - interval '7 days')
        FROM unnest(%s::int4[], %s::int8[]) AS x(a, k)
        CROSS JOIN LATERAL (
            SELECT l.actor FROM {DEFAULT_PARTITION} l
            WHERE l.target_rkey = x.k AND l.target_actor = x.a
              AND l.target_collection = %s AND l.rkey = %s
              AND l.path = (SELECT id FROM path WHERE collection = %s AND path = %s)
            LIMIT {MAX_COUNTED_JOINS}
        ) l
        JOIN profile p ON p.actor = l.actor
        GROUP BY x.a, x.k
        """,
        (
            *_key_columns(packs),
            STARTER_PACK,
            RKEY_SELF,
            COLLECTION_IDS[ACTOR_PROFILE],
            ".joinedViaStarterPack.uri",
        ),
    )
    return {Address(a, STARTER_PACK, k): (ever, week) for a, k, ever, week in rows}


def load_reactions(
    conn: Conn, viewer: int, addresses: Collection[Address]
) -> dict[Address, Reaction]:
    """Return the viewer's likes, reposts and list blocks of these records."""
    rows = conn.execute(
        """
        SELECT l.path, x.a, x.c, x.k, l.rkey
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, k)
        JOIN link l ON l.target_rkey = x.k AND l.target_actor = x.a
          AND l.target_collection = x.c AND l.actor = %s
        WHERE l.path IN (%s, %s, %s)
        """,
        (
            *int_columns([*addresses], 3),
            viewer,
            LIKE_SUBJECT,
            REPOST_SUBJECT,
            LISTBLOCK_SUBJECT,
        ),
    )
    fields = {
        LIKE_SUBJECT: "like",
        REPOST_SUBJECT: "repost",
        LISTBLOCK_SUBJECT: "block",
    }
    found: dict[Address, Reaction] = {}
    for path, *address, record in rows:
        subject = Address(*address)
        reaction = found.get(subject, Reaction())
        found[subject] = reaction._replace(**{fields[path]: record})
    return found
