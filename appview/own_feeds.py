"""The feeds of this provider as records of its own account, which has no repo.

A PDS fetches the record of a feed to learn the service that computes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from appview.app import AppView
from appview.hydration.actors import Actor
from appview.hydration.records import GENERATOR, Named, Record
from appview.session import Session
from feeds.served_feeds import FeedSet
from feeds.skeleton import Algorithm
from protocol.data.cbor import Value, encode
from protocol.data.cid import cid_for, cid_to_text
from protocol.syntax import is_handle, is_resolvable_handle, normalize_handle
from storage.collections import FEED_GENERATOR
from storage.records.addresses import Address, find_actors, find_addresses

# Fixed: the CID of a record must not change with a restart.
CREATED_AT: Final = datetime(2026, 11, 1, tzinfo=UTC)
_DISPLAY_NAME: Final = "Bigworld"
_NO_ACTOR: Final = 0
_NO_RKEY: Final = -(2**62)
_WEB_PREFIX: Final = "did:web:"
_SECONDS: Final = "%Y-%m-%dT%H:%M:%S.000Z"
_VIDEO: Final = "app.bsky.feed.defs#contentModeVideo"


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """A generator record of this provider."""

    uri: str
    cid: str
    value: dict[str, Value]


def own_records(session: Session) -> dict[str, OwnRecord]:
    """Return the generator records of the provider, by record key."""
    return make_records(session.feeds, session.app.service_did)


@lru_cache(maxsize=8)
def make_records(feeds: FeedSet, service_did: str) -> dict[str, OwnRecord]:
    """Return the generator records of feeds, by record key."""
    records = {}
    for name, served in feeds.own.items():
        value = generator_value(service_did, served.algorithm)
        value["createdAt"] = (served.saved_at or CREATED_AT).strftime(_SECONDS)
        uri = f"at://{service_did}/{FEED_GENERATOR}/{name}"
        records[name] = OwnRecord(uri, cid_to_text(cid_for(encode(value))), value)
    return records


def generator_value(service_did: str, feed: Algorithm) -> dict[str, Value]:
    """Return the generator record of a feed, without createdAt."""
    return {
        "$type": FEED_GENERATOR,
        "did": service_did,
        "displayName": feed.display_name,
        **({"description": feed.description} if feed.description else {}),
        **({"acceptsInteractions": True} if feed.uses_feedback else {}),
        **({"contentMode": _VIDEO} if feed.video else {}),
    }


def find_own_record(
    session: Session, repo: str, nsid: str, rkey: str
) -> OwnRecord | None:
    """Return a record of the provider's account, named by DID or handle."""
    return (list_own_records(session, repo, nsid) or {}).get(rkey)


def list_own_records(
    session: Session, repo: str, nsid: str
) -> dict[str, OwnRecord] | None:
    """Return the generators of the provider's account by record key; else None."""
    if nsid != FEED_GENERATOR:
        return None
    did = session.app.service_did
    if repo != did and repo.lower() != own_handle(did):
        return None
    return own_records(session)


def own_handle(service_did: str) -> str | None:
    """Return the host name of a did:web if it can be a handle."""
    host = service_did.removeprefix(_WEB_PREFIX)
    if not is_handle(host):
        return None
    handle = normalize_handle(host)
    return handle if is_resolvable_handle(handle) else None


def own_actors(
    app: AppView, wanted: set[int], found: dict[int, Actor]
) -> dict[int, Actor]:
    """Return accounts as they are shown, the provider's own with name and handle.

    The provider gets its row with the first like of one of its feeds.
    """
    actors = dict(found)
    if _NO_ACTOR in wanted:
        actors[_NO_ACTOR] = Actor(
            id=_NO_ACTOR,
            did=app.service_did,
            handle=own_handle(app.service_did),
            display_name=_DISPLAY_NAME,
            sort_at=CREATED_AT,
            is_indexed=True,
        )
    for actor in found.values():
        if actor.did == app.service_did:
            actors[actor.id] = replace(
                actor,
                handle=own_handle(actor.did),
                display_name=_DISPLAY_NAME,
                host_url=None,
                is_indexed=True,
            )
    return actors


def find_feed_addresses(session: Session, uris: Iterable[str]) -> dict[str, Address]:
    """Return the addresses of records, including the provider's feeds.

    Nothing is written here: a feed without likes or quotes gets numbers of no row.
    """
    wanted = set(uris)
    found = find_addresses(session.conn, wanted)
    did = session.app.service_did
    own = [record.uri for record in own_records(session).values()]
    missing = wanted.intersection(own) - found.keys()
    if missing:
        actor = find_actors(session.conn, [did]).get(did, _NO_ACTOR)
        found |= {
            uri: Address(actor, GENERATOR, _NO_RKEY - own.index(uri)) for uri in missing
        }
    return found


def load_own_feeds(
    session: Session, wanted: set[Address]
) -> tuple[dict[Address, Named], dict[Address, str]]:
    """Return the addresses of the provider's feeds among these, and their AT-URIs."""
    if not any(address.collection == GENERATOR for address in wanted):
        return {}, {}
    records = {r.uri: r for r in own_records(session).values()}
    ours = {
        address: records[uri]
        for uri, address in find_feed_addresses(session, records).items()
        if address in wanted
    }
    likes = dict(
        session.conn.execute(
            "SELECT rkey, likes FROM subject_stats"
            " WHERE actor = %s AND collection = %s AND rkey = ANY(%s)",
            (
                next((address.actor for address in ours), _NO_ACTOR),
                GENERATOR,
                [address.rkey for address in ours],
            ),
        ).fetchall()
    )
    named = {
        address: Named(
            Record(address, record.cid, record.value),
            CREATED_AT,
            likes.get(address.rkey, 0),
            0,
        )
        for address, record in ours.items()
    }
    return named, {address: record.uri for address, record in ours.items()}
