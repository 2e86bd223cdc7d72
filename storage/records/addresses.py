"""AT-URIs to record addresses and back, for readers: nothing is created."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from protocol.errors import InvalidSyntaxError
from protocol.syntax import AtUri, parse_at_uri, tid_from_int
from storage.collections import COLLECTION_IDS
from storage.postgres.pool import Conn
from storage.records.interning import rkey_number
from storage.states import STATUS_DELETED


class Address(NamedTuple):
    """A record by its numbers (storage.schema)."""

    actor: int
    collection: int
    rkey: int


def find_actors(conn: Conn, dids: Iterable[str]) -> dict[str, int]:
    """Return DID -> actor id of known ones."""
    return dict(
        conn.execute(
            "SELECT did, id FROM actor WHERE did = ANY(%s)", (sorted(set(dids)),)
        ).fetchall()
    )


def find_handles(conn: Conn, handles: Iterable[str]) -> dict[str, str]:
    """Return handle -> DID of verified ones, without deleted accounts."""
    return dict(
        conn.execute(
            "SELECT handle, did FROM actor WHERE handle = ANY(%s)"
            f" AND upstream_status <> '{STATUS_DELETED}'",
            (sorted({handle.lower() for handle in handles}),),
        ).fetchall()
    )


def find_addresses(conn: Conn, uris: Iterable[str]) -> dict[str, Address]:
    """Return AT-URI -> address, without unknown names and other URIs."""
    parsed: dict[str, AtUri] = {}
    for uri in uris:
        try:
            found = parse_at_uri(uri)
        except InvalidSyntaxError:
            continue
        if found.rkey is not None:
            parsed[uri] = found
    if not parsed:
        return {}
    actors = find_actors(conn, (str(p.authority) for p in parsed.values()))
    collections = find_collections(conn, {str(p.collection) for p in parsed.values()})
    rkeys = find_record_keys(conn, {str(p.rkey) for p in parsed.values()})
    return {
        uri: Address(
            actors[str(p.authority)], collections[str(p.collection)], rkeys[str(p.rkey)]
        )
        for uri, p in parsed.items()
        if str(p.authority) in actors
        and str(p.collection) in collections
        and str(p.rkey) in rkeys
    }


def name_addresses_in(conn: Conn, addresses: Iterable[Address]) -> dict[Address, str]:
    """Return address -> AT-URI in one statement, without unknown ones."""
    wanted = list(addresses)
    rows = conn.execute(
        """
        SELECT x.a, x.c, x.k, actor.did, collection.nsid, rkey.text
        FROM unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, k)
        JOIN actor ON actor.id = x.a
        JOIN collection ON collection.id = x.c
        LEFT JOIN rkey ON rkey.id = x.k
        """,
        (
            [a.actor for a in wanted],
            [a.collection for a in wanted],
            [a.rkey for a in wanted],
        ),
    )
    return {
        Address(a, c, k): f"at://{did}/{nsid}/{tid_from_int(k) if k > 0 else text}"
        for a, c, k, did, nsid, text in rows
        if k > 0 or text is not None
    }


def name_rkeys(conn: Conn, numbers: Iterable[int]) -> dict[int, str]:
    """Return id -> text of record keys that are no TIDs."""
    return dict(
        conn.execute(
            "SELECT id, text FROM rkey WHERE id = ANY(%s)", (sorted(set(numbers)),)
        ).fetchall()
    )


def find_collections(conn: Conn, nsids: set[str]) -> dict[str, int]:
    """Return NSID -> collection id of known ones."""
    found = {nsid: COLLECTION_IDS[nsid] for nsid in nsids if nsid in COLLECTION_IDS}
    rest = sorted(nsids - found.keys())
    if rest:
        found.update(
            conn.execute(
                "SELECT nsid, id FROM collection WHERE nsid = ANY(%s)", (rest,)
            ).fetchall()
        )
    return found


def find_record_keys(conn: Conn, texts: set[str]) -> dict[str, int]:
    """Return record key -> id of known ones."""
    found: dict[str, int] = {}
    for text in texts:
        number = rkey_number(text)
        if number is not None:
            found[text] = number
    rest = sorted(texts - found.keys())
    if rest:
        found.update(
            conn.execute(
                "SELECT text, id FROM rkey WHERE text = ANY(%s)", (rest,)
            ).fetchall()
        )
    return found
