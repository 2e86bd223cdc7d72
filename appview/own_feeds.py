"""The feeds of this provider as records of its own account, which has no repo.

A PDS that is sent to one of our feeds fetches its record first, to learn which service
computes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from appview.app import AppView
from appview.hydration.actors import Actor
from appview.hydration.records import GENERATOR, Named, Record
from appview.session import Session
from feeds.registry import FEEDS
from protocol.cbor import Value, encode
from protocol.cid import cid_for, cid_to_text
from protocol.syntax import is_handle, is_resolvable_handle, normalize_handle
from storage.addresses import find_addresses
from storage.collections import FEED_GENERATOR
from storage.documents import Address
from storage.interning import Interner

# A fixed time: the CID of a record must not change when the provider is restarted.
CREATED_AT: Final = datetime(2026, 11, 1, tzinfo=UTC)
_DISPLAY_NAME: Final = "Bigworld"
_WEB_PREFIX: Final = "did:web:"


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """A generator record of ours."""

    uri: str
    cid: str
    value: dict[str, Value]


@lru_cache(maxsize=8)
def own_records(service_did: str) -> dict[str, OwnRecord]:
    """Return the generator records of a provider, by record key."""
    records = {}
    for name, feed in FEEDS.items():
        value: dict[str, Value] = {
            "$type": FEED_GENERATOR,
            "did": service_did,
            "displayName": feed.display_name,
            "description": feed.description,
            "createdAt": CREATED_AT.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        }
        uri = f"at://{service_did}/{FEED_GENERATOR}/{name}"
        records[name] = OwnRecord(uri, cid_to_text(cid_for(encode(value))), value)
    return records


def find_own_record(app: AppView, repo: str, nsid: str, rkey: str) -> OwnRecord | None:
    """Return a record of the provider's own account, `repo` being its DID or handle."""
    if nsid != FEED_GENERATOR:
        return None
    if repo != app.service_did and repo.lower() != own_handle(app.service_did):
        return None
    return own_records(app.service_did).get(rkey)


def own_handle(service_did: str) -> str | None:
    """Return the host name of a did:web if it can be a handle."""
    host = service_did.removeprefix(_WEB_PREFIX)
    if not is_handle(host):
        return None
    handle = normalize_handle(host)
    return handle if is_resolvable_handle(handle) else None


def with_own_profile(app: AppView, actor: Actor) -> Actor:
    """Return the account as it is shown, if it is the provider's own."""
    if actor.did != app.service_did:
        return actor
    return replace(
        actor,
        handle=own_handle(actor.did),
        display_name=_DISPLAY_NAME,
        host_url=None,
        is_indexed=True,
    )


def make_addresses(interner: Interner, service_did: str) -> dict[str, Address]:
    """Return the addresses of our feeds by record key; likes of them are kept there.

    Makes their names: to be called when the provider starts, not in a request.
    """
    records = own_records(service_did)
    actor = interner.actors([service_did])[service_did]
    rkeys = interner.rkeys(records)
    return {name: Address(actor, GENERATOR, rkeys[name]) for name in records}


def own_addresses(app: AppView) -> dict[Address, OwnRecord]:
    """Return our feeds by the address under which likes and quotes of them are kept."""
    records = own_records(app.service_did)
    return {address: records[name] for name, address in app.own_feeds.items()}


def find_feed_addresses(session: Session, uris: list[str]) -> dict[str, Address]:
    """Return the addresses of feeds, ours included."""
    found = find_addresses(session.conn, uris)
    if len(found) < len(set(uris)):
        wanted = set(uris)
        for address, record in own_addresses(session.app).items():
            if record.uri in wanted:
                found[record.uri] = address
    return found


def load_own_feeds(session: Session, wanted: set[Address]) -> dict[Address, Named]:
    """Return those of the addresses that are feeds of ours, with their likes."""
    generators = {address for address in wanted if address.collection == GENERATOR}
    if not generators:
        return {}
    ours = own_addresses(session.app)
    found = [address for address in generators if address in ours]
    if not found:
        return {}
    likes = dict(
        session.conn.execute(
            "SELECT rkey, likes FROM subject_stats"
            " WHERE actor = %s AND collection = %s AND rkey = ANY(%s)",
            (found[0].actor, GENERATOR, [address.rkey for address in found]),
        ).fetchall()
    )
    return {
        address: Named(
            Record(address, ours[address].cid, ours[address].value),
            CREATED_AT,
            likes.get(address.rkey, 0),
            0,
        )
        for address in found
    }
