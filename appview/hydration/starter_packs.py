"""Starter packs with their lists, feeds, and their most followed new members."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from appview.hydration.records import LIST, STARTER_PACK
from appview.hydration.state import State
from appview.own_feeds import find_feed_addresses
from protocol.data.cbor import Value
from protocol.syntax import is_at_uri
from storage.postgres.arrays import int_columns
from storage.postgres.pool import Conn
from storage.records.addresses import Address

MAX_SHOWN_MEMBERS: Final = 12
MAX_LOADED_MEMBERS: Final = 16
"""Members of each list that are loaded: some may be hidden."""
MAX_SAMPLED_MEMBERS: Final = 50
"""Newest members of a list, of which those with the most followers are loaded."""
MAX_SHOWN_FEEDS: Final = 3


def load_packs(state: State, packs: Iterable[Address]) -> None:
    """Load starter packs with all that their views show."""
    wanted = [pack for pack in packs if pack.collection == STARTER_PACK]
    state.load_named(wanted)
    values = [state.named[pack].record.value for pack in wanted if pack in state.named]
    uris = {uri for value in values for uri in (list_uri(value), *feed_uris(value))}
    state.by_uri |= find_feed_addresses(state.session, filter(None, uris))
    parts = [state.by_uri[uri] for uri in uris if uri in state.by_uri]
    state.load_named(parts)
    lists = {p for p in parts if p.collection == LIST} - state.members.keys()
    if lists:
        state.members |= _load_members(state.session.conn, lists)
        members = [pair for each in lists for pair in state.members[each]]
        state.name_rkeys(rkey for rkey, _ in members)
        state.load_actors(actor for _, actor in members)


def list_uri(pack: dict[str, Value]) -> str | None:
    """Return the AT-URI of the list of a starter pack."""
    uri = pack.get("list")
    return uri if isinstance(uri, str) and is_at_uri(uri) else None


def feed_uris(pack: dict[str, Value]) -> list[str]:
    """Return the AT-URIs of the first feeds of a starter pack."""
    return [*_feed_uris(pack.get("feeds"))][:MAX_SHOWN_FEEDS]


def _feed_uris(feeds: Value) -> Iterator[str]:
    for feed in feeds if isinstance(feeds, list) else ():
        uri = feed.get("uri") if isinstance(feed, dict) else None
        if isinstance(uri, str) and is_at_uri(uri):
            yield uri


def _load_members(
    conn: Conn, lists: Collection[Address]
) -> dict[Address, list[tuple[int, int]]]:
    found: dict[Address, list[tuple[int, int]]] = {each: [] for each in lists}
    rows = conn.execute(
        """
        SELECT x.a, x.k, i.rkey, i.subject
        FROM unnest(%s::int4[], %s::int8[]) AS x (a, k)
        CROSS JOIN LATERAL (
            SELECT newest.rkey, newest.subject FROM (
                SELECT rkey, subject FROM list_item
                WHERE list_actor = x.a AND list_rkey = x.k ORDER BY rkey DESC LIMIT %s
            ) newest
            LEFT JOIN actor_stats s ON s.actor = newest.subject
            ORDER BY coalesce(s.followers, 0) DESC, newest.rkey DESC LIMIT %s
        ) i
        """,
        (
            *int_columns([(a.actor, a.rkey) for a in lists], 2),
            MAX_SAMPLED_MEMBERS,
            MAX_LOADED_MEMBERS,
        ),
    )
    for actor, rkey, item, subject in rows:
        found[Address(actor, LIST, rkey)].append((item, subject))
    return found
