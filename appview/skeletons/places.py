"""Places of a query (`in:following`, `in:likes`, `in:list`) as filters.

Each place is one bounded query on the index, at the time of the search. A list that is
not shown to the viewer is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from appview.hydration.blocks import MODERATION_LIST, load_blocks
from appview.session import RequestContext, Session
from protocol.data.cbor import decode_fast
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
    FEED_LIKE,
    FOLLOW_SUBJECT,
    GRAPH_LIST,
    NO_RKEY,
)
from storage.postgres.pool import Conn
from storage.records.addresses import (
    Address,
    find_actors,
    find_addresses,
    find_handles,
)
from storage.records.links import partition_of
from storage.records.record_rows import fetch_pieces
from storage.states import STATUS_ACTIVE

MAX_FOLLOWS: Final = 5_000
"""Followed accounts that a search reads, the latest first."""
MAX_LIKES: Final = 2_000
"""Likes that a search reads, the latest first."""
MAX_MEMBERS: Final = 5_000
"""Members of lists that a search reads, the latest first."""
MAX_PLACES: Final = 4
_LIKE: Final = COLLECTION_IDS[FEED_LIKE]
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


def _find_follows(conn: Conn, viewer: str) -> list[str]:
    rows = conn.execute(
        f"""
        SELECT a.did FROM (
            SELECT l.target_actor FROM {partition_of(FOLLOW_SUBJECT)} l
            WHERE l.path = %s AND l.target_rkey = %s
              AND l.actor = (SELECT id FROM actor WHERE did = %s)
            ORDER BY l.sort_at DESC, l.rkey DESC LIMIT %s
        ) f JOIN actor a ON a.id = f.target_actor
        """,
        (FOLLOW_SUBJECT, NO_RKEY, viewer, MAX_FOLLOWS),
    )
    return [did for (did,) in rows]


def _find_likes(conn: Conn, viewer: str) -> list[Address]:
    # Likes have no index by their account: the records are read by their keys.
    rows = conn.execute(
        """
        SELECT actor, collection, rkey FROM record
        WHERE actor = (SELECT id FROM actor WHERE did = %s) AND collection = %s
        ORDER BY rkey DESC LIMIT %s
        """,
        (viewer, _LIKE, MAX_LIKES),
    ).fetchall()
    uris: dict[str, None] = {}
    for _, records in fetch_pieces(conn, rows):
        uris |= dict.fromkeys(_subjects(records.values()))
    return [*find_addresses(conn, uris).values()]


def _subjects(blocks: Iterable[bytes]) -> Iterator[str]:
    """Return the AT-URIs of liked records. Likes of any form are stored."""
    for block in blocks:
        value: Any = decode_fast(block)
        subject = value.get("subject") if isinstance(value, dict) else None
        uri = subject.get("uri") if isinstance(subject, dict) else None
        if isinstance(uri, str):
            yield uri


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
