"""app.bsky.feed.getFeed: our own feeds, and those that other services compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from appview.app import ForeignItem, ForeignSkeleton
from appview.hydration.records import GENERATOR, POST
from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, shown_items
from appview.session import Session
from appview.views.post import feed_view_post
from feeds.skeleton import SkeletonItem
from network.xrpc.server import Call, XrpcError
from storage.collections import COLLECTION_IDS, FEED_REPOST, REPOST_SUBJECT
from storage.records.addresses import find_addresses
from storage.records.documents import Address

GET_FEED: Final = "app.bsky.feed.getFeed"
REASON_PIN: Final = "app.bsky.feed.defs#reasonPin"
_FORWARDED_HEADERS: Final = ("accept-language", "x-bsky-topics")
_REPOST_COLLECTION: Final = COLLECTION_IDS[FEED_REPOST]
# Pages of which nothing may be shown are passed over, so many of them.
MAX_FOREIGN_PAGES: Final = 3


@dataclass(frozen=True, slots=True)
class ForeignFeed:
    """A feed that another service computes."""

    service_did: str
    uri: str


@dataclass(frozen=True, slots=True)
class ForeignPage:
    """A fetched page: what of it is in the index, with what the service said of it."""

    items: list[tuple[SkeletonItem, ForeignItem]]
    skeleton: ForeignSkeleton


def find_foreign_feed(session: Session, uri: str) -> ForeignFeed:
    """Return the service that computes a feed; XrpcError if its record is unknown."""
    address = find_addresses(session.conn, [uri]).get(uri)
    row = None
    if address is not None and address.collection == GENERATOR:
        row = session.conn.execute(
            "SELECT service_did FROM feed_generator WHERE actor = %s AND rkey = %s",
            (address.actor, address.rkey),
        ).fetchone()
    if row is None:
        raise XrpcError("InvalidRequest", "could not find feed", 400)
    if row[0] == session.app.service_did:
        raise XrpcError("UnknownFeed", f"not served here: {uri}", 400)
    return ForeignFeed(row[0], uri)


def forwarded_headers(call: Call, service_did: str) -> dict[str, str]:
    """Return the headers of a request that the service of a feed is to see.

    The bearer is passed on only to the service that it is for: with a token for
    another one a feed could act there in the viewer's name.
    """
    headers = {
        name: value
        for name in _FORWARDED_HEADERS
        if (value := call.headers.get(name)) is not None
    }
    audience = call.auth.claims.get("aud", "") if call.auth else ""
    if unquote(audience).partition("#")[0] == unquote(service_did):
        headers["authorization"] = call.headers["authorization"]
    return headers


def hydrate_foreign(skeleton: ForeignSkeleton) -> Pipeline[ForeignPage]:
    """Return the pipeline of a skeleton that has already been fetched."""

    def find(session: Session, params: Params) -> ForeignPage:
        uris = [uri for i in skeleton.items for uri in (i.post, i.repost) if uri]
        found = find_addresses(session.conn, uris)
        entries: list[tuple[SkeletonItem, ForeignItem]] = []
        for item in skeleton.items:
            post = found.get(item.post)
            repost = found.get(item.repost) if item.repost else None
            if post is not None and (repost is not None or not item.repost):
                entries.append((SkeletonItem(post, repost), item))
        claims = {(i.repost, i.post) for i, _ in entries if i.repost is not None}
        real = _real_reposts(session, claims)
        return ForeignPage(
            [
                (entry, item)
                for entry, item in entries
                if entry.repost is None or (entry.repost, entry.post) in real
            ],
            skeleton,
        )

    return Pipeline(
        skeleton=find,
        hydrate=lambda state, page: state.load_feed(item for item, _ in page.items),
        rules=_shown,
        present=_present,
    )


def _real_reposts(
    session: Session, claims: set[tuple[Address, Address]]
) -> set[tuple[Address, Address]]:
    """Return the (repost, post) pairs that exist: a service may claim any."""
    if not claims:
        return set()
    rows = session.conn.execute(
        """
        SELECT actor, rkey, target_actor, target_rkey FROM link
        WHERE path = %s AND target_collection = %s AND (actor, rkey) IN (
            SELECT * FROM unnest(%s::int4[], %s::int8[]))
        """,
        (
            REPOST_SUBJECT,
            POST,
            [repost.actor for repost, _ in claims],
            [repost.rkey for repost, _ in claims],
        ),
    ).fetchall()
    found = set(rows)
    return {
        (repost, post)
        for repost, post in claims
        if repost.collection == _REPOST_COLLECTION
        and (repost.actor, repost.rkey, post.actor, post.rkey) in found
    }


def _shown(state: State, page: ForeignPage) -> ForeignPage:
    shown = set(shown_items(state, Place.FEED_ITEM, [item for item, _ in page.items]))
    items = [pair for pair in page.items if pair[0] in shown]
    return ForeignPage(items, page.skeleton)


def _present(state: State, page: ForeignPage, _: Params) -> dict[str, Any]:
    feed = []
    for shown, item in page.items:
        entry = feed_view_post(state, shown)
        if item.pinned:
            entry["reason"] = {"$type": REASON_PIN}
        if item.context is not None:
            entry["feedContext"] = item.context
        if page.skeleton.req_id is not None:
            entry["reqId"] = page.skeleton.req_id
        feed.append(entry)
    cursor = page.skeleton.cursor
    return {"feed": feed, **({"cursor": cursor} if cursor is not None else {})}
