"""Feed generators, and the services that compute their feeds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from appview.hydration.records import GENERATOR
from appview.own_feeds import find_feed_addresses, own_handle, own_records
from appview.paging import Entry, Keyset, Source
from appview.pipeline import Params
from appview.session import Session
from feeds.served_feeds import ServedFeed
from network.xrpc.server import XrpcError
from protocol.syntax import parse_at_uri
from storage.collections import FEED_GENERATOR
from storage.postgres.instants import from_micros, micros_sql
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_addresses, name_addresses_in

MAX_GENERATORS: Final = 150
MAX_HOSTED: Final = 1_000
"""Recipes of accounts that are listed."""
_END: Final = 253_402_300_799_000_000


@dataclass(frozen=True, slots=True)
class ForeignFeed:
    """A feed that another service computes."""

    service_did: str
    uri: str


def find_served(session: Session, uri: str) -> ServedFeed | None:
    """Return a feed, None if this provider does not serve it.

    A generator record must name this service. The provider's own feeds need none, and
    that of a recipe of an account may be missing.
    """
    parsed = parse_at_uri(uri)
    if parsed.collection != FEED_GENERATOR or parsed.rkey is None:
        return None
    ours = session.app.service_did
    owner = str(parsed.authority)
    served = session.feeds.find(owner, str(parsed.rkey), ours)
    if served is None or owner == ours:
        return served
    if session.taken_down.has_record(uri):
        return None
    service = _find_service(session, uri)
    if service is None and (owner, str(parsed.rkey)) in session.feeds.others:
        # Its owner saved it here; the record may not be indexed yet, or never.
        return served
    return served if service == ours else None


def find_foreign_feed(session: Session, uri: str) -> ForeignFeed:
    """Return the service of a feed. Raises XrpcError if its record is unknown."""
    service = _find_service(session, uri)
    if service is None:
        raise XrpcError("InvalidRequest", "could not find feed", 400)
    if service == session.app.service_did:
        raise XrpcError("UnknownFeed", f"this provider does not serve {uri}", 400)
    return ForeignFeed(service, uri)


def _find_service(session: Session, uri: str) -> str | None:
    """Return the DID of the service that a generator record names."""
    if session.taken_down.has_record(uri):
        return None
    return _find_services(session.conn, [uri]).get(uri)


def _find_services(conn: Conn, uris: Collection[str]) -> dict[str, str]:
    """Return the services that generator records name, by the AT-URIs of these."""
    found = {
        address: uri
        for uri, address in find_addresses(conn, uris).items()
        if address.collection == GENERATOR
    }
    rows = conn.execute(
        """
        SELECT g.actor, g.rkey, g.service_did
        FROM unnest(%s::int4[], %s::int8[]) AS k (actor, rkey)
        JOIN feed_generator g ON g.actor = k.actor AND g.rkey = k.rkey
        """,
        ([a.actor for a in found], [a.rkey for a in found]),
    )
    return {found[Address(actor, GENERATOR, rkey)]: did for actor, rkey, did in rows}


def find_generators(session: Session, params: Params) -> list[Address]:
    """Return the known feeds of `feed` or `feeds`, each once."""
    uris: list[str] = params.get("feeds") or [params["feed"]]
    if len(uris) > MAX_GENERATORS:
        raise XrpcError("InvalidRequest", f"at most {MAX_GENERATORS} feeds", 400)
    found = find_feed_addresses(session, uris)
    return list(dict.fromkeys(found[uri] for uri in uris if uri in found))


def find_served_feeds(session: Session) -> list[str]:
    """Return the AT-URIs of the feeds that this provider computes, its own last.

    First are the recipes of accounts, at most MAX_HOSTED.
    """
    did = session.app.service_did
    keys = sorted(session.feeds.others)[:MAX_HOSTED]
    hosted = [f"at://{owner}/{FEED_GENERATOR}/{rkey}" for owner, rkey in keys]
    hosted = only_published(session, hosted)
    rows = session.conn.execute(
        "SELECT actor, rkey FROM feed_generator WHERE service_did = %s "
        "ORDER BY actor, rkey LIMIT %s",
        (did, MAX_GENERATORS),
    ).fetchall()
    uris = name_addresses_in(
        session.conn, [Address(actor, GENERATOR, rkey) for actor, rkey in rows]
    )
    built_in = [uri for uri in uris.values() if is_served(session, uri)]
    published = [
        uri
        for uri in dict.fromkeys([*hosted, *built_in])
        if not session.taken_down.has_record(uri)
    ]
    return [*published, *(record.uri for record in own_records(session).values())]


def only_published(session: Session, hosted: Collection[str]) -> list[str]:
    """Return recipes of accounts, without those whose record names another service."""
    did = session.app.service_did
    services = _find_services(session.conn, hosted)
    return [
        uri
        for uri in hosted
        if services.get(uri, did) == did and not session.taken_down.has_record(uri)
    ]


def is_served(session: Session, uri: str) -> bool:
    """Return True if a generator record that names this service names a feed of it."""
    _, _, owner, _, rkey = uri.split("/")
    return session.feeds.find(owner, rkey, session.app.service_did) is not None


def actor_feeds(session: Session, params: Params) -> Source[Address]:
    """Return the generators of an account, newest first. Raises XrpcError."""
    did = session.app.service_did
    if params["actor"] in (did, own_handle(did)):
        uris = [record.uri for record in own_records(session).values()]
        own = find_feed_addresses(session, uris)
        entries = [Entry(own[uri], [n]) for n, uri in enumerate(uris) if uri in own]
        return Source(
            lambda after, limit: entries[after[0] + 1 if after else 0 :][:limit]
        )
    actor = session.find_actor(params["actor"])
    if actor is None:
        raise XrpcError("InvalidRequest", "Profile not found", 400)
    return Source(
        lambda after, limit: _fetch_feeds(session.conn, actor, after, limit), [actor]
    )


def _fetch_feeds(
    conn: Conn, actor: int, after: Keyset | None, limit: int
) -> list[Entry[Address]]:
    at, rkey = after or (_END, 0)
    rows = conn.execute(
        f"""
        SELECT {micros_sql("created_at")}, rkey FROM feed_generator
        WHERE actor = %s AND (created_at, rkey) < (%s, %s)
        ORDER BY created_at DESC, rkey DESC LIMIT %s
        """,
        (actor, from_micros(at), rkey, limit),
    )
    return [Entry(Address(actor, GENERATOR, key), [at, key]) for at, key in rows]
