"""Rows that filters and orders of recipes depend on, one query for each kind."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from protocol.data.cbor import decode_fast
from storage.collections import (
    COLLECTION_IDS,
    FEED_LIKE,
    FEED_POST,
    FOLLOW_SUBJECT,
    LIKE_SUBJECT,
    NO_COLLECTION,
    NO_RKEY,
)
from storage.postgres.arrays import int_array, int_columns
from storage.postgres.instants import micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_addresses
from storage.records.links import partition_of
from storage.records.record_rows import fetch_records
from storage.records.web_urls import domain_of
from storage.states import STATUS_ACTIVE

POST: Final = COLLECTION_IDS[FEED_POST]
_LIKE: Final = COLLECTION_IDS[FEED_LIKE]
MAX_COUNTED: Final = 200
"""Posts of an account that are counted for quiet posters."""
OWN_LIKES: Final = 100
"""Newest likes of the viewer that co-likes begin with."""
LIKERS: Final = 100
"""Likers of one post that are read."""
_LIKES: Final = partition_of(LIKE_SUBJECT)


@dataclass(frozen=True, slots=True)
class Facts:
    """A post's time in microseconds, its thread and its counts."""

    at: int
    root: Address
    likes: int = 0
    reposts: int = 0
    replies: int = 0
    quotes: int = 0


def load_facts(conn: Conn, posts: Collection[Address]) -> dict[Address, Facts]:
    """Return the facts of existing posts."""
    wanted = [(a.actor, a.rkey) for a in posts if a.collection == POST]
    if not wanted:
        return {}
    rows = conn.execute(
        f"""
        SELECT x.a, x.k, {micros_sql("p.sort_at")},
               coalesce(p.root_actor, x.a), coalesce(p.root_rkey, x.k),
               coalesce(s.likes, 0), coalesce(s.reposts, 0),
               coalesce(s.replies, 0), coalesce(s.quotes, 0)
        FROM unnest(%s::int4[], %s::int8[]) AS x (a, k)
        JOIN post p ON p.actor = x.a AND p.rkey = x.k
        LEFT JOIN post_stats s ON s.actor = x.a AND s.rkey = x.k
        """,
        int_columns(wanted, 2),
    )
    return {
        Address(a, POST, k): Facts(at, Address(ra, POST, rk), *counts)
        for a, k, at, ra, rk, *counts in rows
    }


def find_existing(conn: Conn, records: Collection[Address]) -> set[Address]:
    """Return the records that exist, of accounts that may be shown."""
    posts = [a for a in records if a.collection == POST]
    others = [a for a in records if a.collection != POST]
    found = {
        Address(a, POST, k)
        for a, k in conn.execute(
            """
            SELECT x.a, x.k FROM unnest(%s::int4[], %s::int8[]) AS x (a, k)
            JOIN post p ON p.actor = x.a AND p.rkey = x.k
            """,
            int_columns([(a.actor, a.rkey) for a in posts], 2),
        )
    }
    if others:
        rows = conn.execute(
            """
            SELECT x.a, x.c, x.k
            FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x (a, c, k)
            JOIN record r ON r.actor = x.a AND r.collection = x.c AND r.rkey = x.k
            """,
            int_columns(others, 3),
        )
        found |= {Address(*row) for row in rows}
    shown = _find_shown(conn, {address.actor for address in found})
    return {address for address in found if address.actor in shown}


def _find_shown(conn: Conn, actors: Collection[int]) -> set[int]:
    rows = conn.execute(
        "SELECT id FROM actor WHERE id = ANY(%s::int4[])"
        " AND takedown IS NULL AND upstream_status = %s",
        (int_array(sorted(actors)), STATUS_ACTIVE),
    )
    return {actor for (actor,) in rows}


def find_followed(conn: Conn, viewer: int, actors: Iterable[int]) -> set[int]:
    """Return the accounts among these that the viewer follows."""
    rows = conn.execute(
        f"SELECT target_actor FROM {partition_of(FOLLOW_SUBJECT)}"
        " WHERE actor = %s AND path = %s AND target_actor = ANY(%s::int4[])",
        (viewer, FOLLOW_SUBJECT, int_array(sorted({*actors}))),
    )
    return {actor for (actor,) in rows}


def find_labels(
    conn: Conn, subjects: Collection[Address], values: Collection[str]
) -> dict[Address, set[str]]:
    """Return labels in force among `values`, by record or account."""
    if not values:
        return {}
    rows = conn.execute(
        """
        SELECT l.actor, l.collection, l.rkey, l.val
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x (a, c, k)
        JOIN label l ON l.actor = x.a AND l.collection = x.c AND l.rkey = x.k
        WHERE l.val = ANY(%s) AND NOT l.neg AND (l.exp IS NULL OR l.exp > now())
        """,
        (*int_columns([*subjects], 3), [*values]),
    )
    found: dict[Address, set[str]] = {}
    for actor, collection, rkey, value in rows:
        found.setdefault(Address(actor, collection, rkey), set()).add(value)
    return found


def account_of(record: Address) -> Address:
    """Return the address of the account of a record, as labels name it."""
    return Address(record.actor, NO_COLLECTION, NO_RKEY)


def find_members(
    conn: Conn, lists: Collection[str], actors: Collection[int] | None = None
) -> dict[str, set[int]]:
    """Return the members of lists by AT-URI; with `actors`, only these."""
    known = find_addresses(conn, lists)
    members: dict[str, set[int]] = {}
    for uri, address in known.items():
        chosen = "" if actors is None else "AND subject = ANY(%s::int4[])"
        given = [] if actors is None else [int_array(sorted(actors))]
        rows = conn.execute(
            "SELECT subject FROM list_item WHERE list_actor = %s AND list_rkey = %s"
            f" {chosen} ORDER BY rkey LIMIT 10000",
            [address.actor, address.rkey, *given],
        )
        members[uri] = {subject for (subject,) in rows}
    return members


def count_lately(
    conn: Conn, actors: Collection[int], since: datetime, until: datetime
) -> dict[int, int]:
    """Return the number of posts of accounts in a span, up to MAX_COUNTED."""
    rows = conn.execute(
        """
        SELECT f.id, n.posts FROM unnest(%s::int4[]) AS f (id)
        CROSS JOIN LATERAL (
            SELECT count(*) AS posts FROM (
                SELECT FROM post p WHERE p.actor = f.id
                  AND p.sort_at > %s AND p.sort_at <= %s LIMIT %s
            ) lately
        ) n
        """,
        (int_array(sorted(actors)), since, until, MAX_COUNTED),
    )
    return dict(rows.fetchall())


def load_values(conn: Conn, posts: Sequence[Address]) -> dict[Address, dict[str, Any]]:
    """Return the values of records."""
    return {
        address: value
        for address, block in fetch_records(conn, posts).items()
        if isinstance(value := decode_fast(block), dict)
    }


def linked_domains(value: dict[str, Any]) -> list[str]:
    """Return the domain of the link card of a post."""
    embed = value.get("embed")
    if not isinstance(embed, dict):
        return []
    media = embed.get("media")
    cards = [
        embed.get("external"),
        media.get("external") if isinstance(media, dict) else None,
    ]
    urls = [card.get("uri") for card in cards if isinstance(card, dict)]
    return [d for url in urls if isinstance(url, str) and (d := domain_of(url))]


def co_like_scores(
    conn: Conn, viewer: int, posts: Collection[Address]
) -> dict[Address, float]:
    """Return how much the likers of posts have in common with the viewer.

    A liker weighs the number of the viewer's newest likes that it shares, over the
    number of likers that were read of each.
    """
    mine = _own_likes(conn, viewer)
    weights: dict[int, float] = {}
    for likers in _likers(conn, mine).values():
        for liker in likers - {viewer}:
            weights[liker] = weights.get(liker, 0.0) + 1.0 / len(likers)
    scores: dict[Address, float] = {}
    for post, likers in _likers(conn, posts).items():
        score = sum(weights.get(liker, 0.0) for liker in sorted(likers))
        scores[post] = score / len(likers) ** 0.5
    return scores


def _own_likes(conn: Conn, viewer: int) -> list[Address]:
    rows = conn.execute(
        "SELECT rkey FROM record WHERE actor = %s AND collection = %s"
        " ORDER BY rkey DESC LIMIT %s",
        (viewer, _LIKE, OWN_LIKES),
    )
    likes = [Address(viewer, _LIKE, rkey) for (rkey,) in rows]
    uris: list[str] = []
    for value in load_values(conn, likes).values():
        subject = value.get("subject")
        if isinstance(subject, dict) and isinstance(subject.get("uri"), str):
            uris.append(subject["uri"])
    return [a for a in find_addresses(conn, uris).values() if a.collection == POST]


def _likers(conn: Conn, posts: Collection[Address]) -> dict[Address, set[int]]:
    rows = conn.execute(
        f"""
        SELECT x.a, x.k, l.actor FROM unnest(%s::int4[], %s::int8[]) AS x (a, k)
        CROSS JOIN LATERAL (
            SELECT actor FROM {_LIKES}
            WHERE target_rkey = x.k AND target_actor = x.a AND path = %s LIMIT %s
        ) l
        """,
        (
            *int_columns([(a.actor, a.rkey) for a in posts if a.collection == POST], 2),
            LIKE_SUBJECT,
            LIKERS,
        ),
    )
    found: dict[Address, set[int]] = {}
    for actor, rkey, liker in rows:
        found.setdefault(Address(actor, POST, rkey), set()).add(liker)
    return found
