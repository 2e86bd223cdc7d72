"""Sets of records that belong to an account (`in:…`), as filters."""

from __future__ import annotations

from typing import Final

from appview.hydration.records import LIKE, LIST, load_records
from appview.session import Session
from search.query.nodes import (
    Kind,
    Node,
    Not,
    Place,
    Within,
    any_of,
    filters,
    record_key,
)
from storage.postgres.pool import Conn
from storage.records.addresses import (
    Address,
    find_actors,
    find_addresses,
)
from storage.records.record_allowance import Allowance

MAX_ACCOUNTS: Final = 2_000
"""Accounts of a set, those followed or listed last."""
MAX_READ_FOLLOWS: Final = 10_000
MAX_LIKES: Final = 1_000
"""Liked records of a set, the newest."""
_LIKE_BYTES: Final = 2_000_000
_LIKE_ITEMS: Final = 50_000


def resolve_sets(session: Session, within: Within) -> Node:
    """Return the filters that stand for a set; of a set without members, nothing."""
    if within.place is Place.LIKES:
        node = _likes(session.conn, within.value)
    else:
        find = _listed if within.place is Place.LIST else _followed
        node = any_of(*filters(Kind.AUTHOR, find(session.conn, within.value)))
    return Not(node) if within.negated else node


def liked_records(
    conn: Conn, actor: int, limit: int, allowance: Allowance
) -> list[Address]:
    """Return the records of the newest likes of an account, as the index knows them."""
    rows = conn.execute(
        "SELECT rkey FROM record WHERE actor = %s AND collection = %s"
        " ORDER BY rkey DESC LIMIT %s",
        (actor, LIKE, limit),
    ).fetchall()
    addresses = [Address(actor, LIKE, row[0]) for row in rows]
    likes = load_records(conn, addresses, allowance)
    subjects = (record.value.get("subject") for record in likes.values())
    uris = (s.get("uri") for s in subjects if isinstance(s, dict))
    found = find_addresses(conn, [uri for uri in uris if isinstance(uri, str)])
    return [*found.values()]


def followed_ids(conn: Conn, actor: int) -> list[int]:
    """Return the accounts that an account follows, the latest first."""
    rows = conn.execute(
        """
        SELECT target_actor FROM (SELECT target_actor, sort_at FROM link_follow
                                  WHERE actor = %s LIMIT %s) AS followed
        ORDER BY sort_at DESC LIMIT %s
        """,
        (actor, MAX_READ_FOLLOWS, MAX_ACCOUNTS),
    )
    return [row[0] for row in rows]


def _likes(conn: Conn, did: str) -> Node:
    actor = find_actors(conn, [did]).get(did)
    allowance = Allowance(_LIKE_BYTES, _LIKE_ITEMS)
    found = [] if actor is None else liked_records(conn, actor, MAX_LIKES, allowance)
    return any_of(*filters(Kind.RECORD, map(record_key, found)))


def _followed(conn: Conn, did: str) -> list[str]:
    actor = find_actors(conn, [did]).get(did)
    followed = [] if actor is None else followed_ids(conn, actor)
    rows = conn.execute("SELECT did FROM actor WHERE id = ANY(%s)", (followed,))
    return [row[0] for row in rows]


def _listed(conn: Conn, owner: str) -> list[str]:
    """Return the members of a list (an AT-URI), or of all lists of an account."""
    if not owner.startswith("at://"):
        where, values = "i.actor = (SELECT id FROM actor WHERE did = %s)", [owner]
    else:
        found = find_addresses(conn, [owner]).get(owner)
        if found is None or found.collection != LIST:
            return []
        where = "i.list_actor = %s AND i.list_rkey = %s"
        values = [found.actor, found.rkey]  # type: ignore[list-item]
    rows = conn.execute(
        f"""
        SELECT DISTINCT a.did FROM (
            SELECT subject FROM list_item i WHERE {where} ORDER BY rkey DESC LIMIT %s
        ) i JOIN actor a ON a.id = i.subject
        """,
        [*values, MAX_ACCOUNTS],
    )
    return [row[0] for row in rows]
