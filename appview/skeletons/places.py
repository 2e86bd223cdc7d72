"""Places of a query (`in:following`, `in:likes`, `in:list`) as filters.

Each place is one bounded query on the index, at the time of the search. A list that is
not shown to the viewer is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from appview.hydration.blocks import MODERATION_LIST, load_blocks
from appview.hydration.records import LIKE, load_records
from appview.session import RequestContext, Session
from protocol.errors import InvalidSyntaxError
from protocol.syntax import is_did, parse_at_uri
from search.query.nodes import (
    Kind,
    Node,
    Not,
    Place,
    Query,
    Within,
    all_of,
    any_of,
    filters,
    record_key,
)
from search.query.operators import InvalidQueryError
from storage.collections import (
    COLLECTION_IDS,
    GRAPH_LIST,
)
from storage.postgres.pool import Conn
from storage.records.addresses import (
    Address,
    find_actors,
    find_addresses,
    find_handles,
)
from storage.records.record_allowance import Allowance
from storage.states import STATUS_ACTIVE

MAX_FOLLOWS: Final = 5_000
"""Followed accounts that a search reads, the latest first."""
MAX_LIKES: Final = 2_000
"""Likes that a search reads, the latest first."""
MAX_MEMBERS: Final = 5_000
"""Members of lists that a search reads, the latest first."""
MAX_PLACES: Final = 4
MAX_READ_FOLLOWS: Final = 10_000
_LIKE_BYTES: Final = 2_000_000
_LIKE_ITEMS: Final = 50_000
_LIST: Final = COLLECTION_IDS[GRAPH_LIST]


def resolve_within(context: RequestContext, query: Query) -> Query:
    """Return the query with filters for its places. Raises InvalidQueryError."""
    if not query.within:
        return query
    with context.session() as session:
        return resolve_places(session, query)


def resolve_places(session: Session, query: Query) -> Query:
    """Return the query with filters for its places. Raises InvalidQueryError."""
    places = tuple(dict.fromkeys(query.within))
    if len(places) > MAX_PLACES:
        raise InvalidQueryError(f"more than {MAX_PLACES} times in:")
    nodes = [_condition(session, within) for within in places]
    return replace(query, where=all_of(query.where, *nodes), within=())


def _condition(session: Session, within: Within) -> Node:
    found: Node
    if within.place is Place.LIKES:
        keys = map(record_key, _find_likes(session.conn, within.value))
        found = any_of(*filters(Kind.RECORD, keys))
    elif within.place is Place.FOLLOWING:
        found = any_of(*_authors(_find_follows(session.conn, within.value)))
    else:
        found = any_of(*_authors(_find_members(session, within.value)))
    return Not(found) if within.negated else found


def _authors(dids: Iterable[str]) -> Sequence[Node]:
    return filters(Kind.AUTHOR, dids)


def followed_ids(conn: Conn, actor: int) -> list[int]:
    """Return the accounts that an account follows, the latest first."""
    rows = conn.execute(
        """
        SELECT target_actor FROM (SELECT target_actor, sort_at FROM link_follow
                                  WHERE actor = %s LIMIT %s) AS followed
        ORDER BY sort_at DESC LIMIT %s
        """,
        (actor, MAX_READ_FOLLOWS, MAX_FOLLOWS),
    )
    return [row[0] for row in rows]


def liked_records(
    conn: Conn, actor: int, limit: int, allowance: Allowance
) -> list[Address]:
    """Return the records of the newest likes of an account, as the index knows them."""
    # Likes have no index by their account: the records are read by their keys.
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


def _find_follows(conn: Conn, viewer: str) -> list[str]:
    actor = find_actors(conn, [viewer]).get(viewer)
    followed = [] if actor is None else followed_ids(conn, actor)
    rows = conn.execute("SELECT did FROM actor WHERE id = ANY(%s)", (followed,))
    return [did for (did,) in rows]


def _find_likes(conn: Conn, viewer: str) -> list[Address]:
    actor = find_actors(conn, [viewer]).get(viewer)
    allowance = Allowance(_LIKE_BYTES, _LIKE_ITEMS)
    return [] if actor is None else liked_records(conn, actor, MAX_LIKES, allowance)


def _find_members(session: Session, value: str) -> list[str]:
    """Return the members of a list, or of all lists of an account (its DID)."""
    if is_did(value):
        which, values = (
            "l.actor = %s AND l.purpose <> %s",
            [
                find_actors(session.conn, [value]).get(value),
                MODERATION_LIST,
            ],
        )
    else:
        address = _find_list(session, value)
        if address is None:
            return []
        which, values = "l.actor = %s AND l.rkey = %s", [address.actor, address.rkey]
    rows = session.conn.execute(
        f"""
        SELECT DISTINCT a.did FROM (
            SELECT i.subject FROM list l
            JOIN actor owner ON owner.id = l.actor
            JOIN list_item i ON i.list_actor = l.actor AND i.list_rkey = l.rkey
            WHERE {which} AND i.actor = l.actor
              AND owner.takedown IS NULL AND owner.upstream_status = %s
            ORDER BY i.rkey DESC LIMIT %s
        ) m JOIN actor a ON a.id = m.subject
        """,
        [*values, STATUS_ACTIVE, MAX_MEMBERS],
    )
    return [did for (did,) in rows]


def _find_list(session: Session, uri: str) -> Address | None:
    """Return the address of a list; None if the index or a block hides it."""
    try:
        parsed = parse_at_uri(uri)
    except InvalidSyntaxError:
        parsed = None
    if parsed is None or parsed.collection != GRAPH_LIST or parsed.rkey is None:
        raise InvalidQueryError(f"in:{uri} is not the AT-URI of a list")
    owner = str(parsed.authority)
    if not is_did(owner):
        owner = find_handles(session.conn, [owner]).get(owner.lower(), "")
    uri = f"at://{owner}/{GRAPH_LIST}/{parsed.rkey}"
    address = find_addresses(session.conn, [uri]).get(uri)
    viewer = session.viewer_actor
    if address is None or viewer is None:
        return address
    pairs = [(viewer, address.actor), (address.actor, viewer)]
    return None if load_blocks(session.conn, pairs) else address
