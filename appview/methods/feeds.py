"""Feeds: getFeed, getFeedSkeleton, getFeedGenerator(s), describeFeedGenerator."""

from __future__ import annotations

from typing import Any

from appview.hydration.records import GENERATOR
from appview.hydration.state import State
from appview.own_feeds import find_feed_addresses, own_records
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params, Pipeline, Runnable
from appview.rules import Place, shown_items, shown_records
from appview.session import Session
from appview.views.named import generator_view
from appview.views.post import feed_view_post
from feeds.registry import FEEDS
from feeds.skeleton import (
    Algorithm,
    FeedRequest,
    SkeletonItem,
    ViewerRequiredError,
)
from network.xrpc.server import XrpcError
from protocol.syntax import parse_at_uri
from storage.collections import FEED_GENERATOR
from storage.records.addresses import find_addresses, name_addresses_in
from storage.records.documents import Address

SKELETON_REPOST = "app.bsky.feed.defs#skeletonReasonRepost"
MAX_GENERATORS = 150


def present_feed(state: State, page: Page[SkeletonItem], _: Params) -> dict[str, Any]:
    """Return the JSON of a feed."""
    return {"feed": [feed_view_post(state, item) for item in page.items]}


# feeds of this provider


def find_algorithm(session: Session, uri: str) -> Algorithm | None:
    """The algorithm behind a feed URI, if this provider serves it.

    Served are the feeds whose generator record names this service; the provider's own
    DID as publisher needs no record.
    """
    parsed = parse_at_uri(uri)
    if parsed.collection != FEED_GENERATOR or parsed.rkey not in FEEDS:
        return None
    if str(parsed.authority) != session.app.service_did:
        row = session.conn.execute(
            """
            SELECT 1 FROM feed_generator g
            JOIN unnest(%s::int4[], %s::int8[]) AS x(a, k)
              ON g.actor = x.a AND g.rkey = x.k
            WHERE g.service_did = %s
            """,
            (*_address_columns(session, uri), session.app.service_did),
        ).fetchone()
        if row is None:
            return None
    return FEEDS[str(parsed.rkey)]


def _address_columns(session: Session, uri: str) -> tuple[list[int], list[int]]:
    address = find_addresses(session.conn, [uri]).get(uri)
    return ([address.actor], [address.rkey]) if address else ([], [])


def _own_feed(session: Session, params: Params) -> Source[SkeletonItem]:
    algorithm = find_algorithm(session, params["feed"])
    if algorithm is None:
        raise XrpcError("UnknownFeed", f"not served here: {params['feed']}", 400)

    def fetch(after: Keyset | None, limit: int) -> list[Entry[SkeletonItem]]:
        request = FeedRequest(session.viewer_actor, limit, after)
        try:
            entries = algorithm.build(session.conn, request)
        except ViewerRequiredError as error:
            raise XrpcError("AuthMissing", str(error), 401) from error
        return [Entry(entry.item, entry.keyset) for entry in entries]

    return Source(fetch)


def _name_items(state: State, page: Page[SkeletonItem]) -> None:
    state.name(a for i in page.items for a in (i.post, i.repost) if a is not None)


def _named_items(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    return [
        item
        for item in page.items
        if item.post in state.uris and (not item.repost or item.repost in state.uris)
    ]


def _present_skeleton(
    state: State, page: Page[SkeletonItem], _: Params
) -> dict[str, Any]:
    feed: list[dict[str, Any]] = []
    for item in page.items:
        entry: dict[str, Any] = {"post": state.uris[item.post]}
        if item.repost is not None:
            reposted = state.uris[item.repost]
            entry["reason"] = {"$type": SKELETON_REPOST, "repost": reposted}
        feed.append(entry)
    return {"feed": feed}


GET_FEED_SKELETON: RowPages[SkeletonItem] = RowPages(
    _own_feed,
    Steps(hydrate=_name_items, rules=_named_items, present=_present_skeleton),
)
"""Only the AT-URIs: what an AppView asks of a feed generator."""


def describe_feed_generator(session: Session, params: Params) -> dict[str, Any]:
    """The feeds that this service computes."""
    rows = session.conn.execute(
        "SELECT actor, rkey FROM feed_generator WHERE service_did = %s "
        "ORDER BY actor, rkey LIMIT %s",
        (session.app.service_did, MAX_GENERATORS),
    ).fetchall()
    uris = name_addresses_in(
        session.conn, [Address(actor, GENERATOR, rkey) for actor, rkey in rows]
    )
    published = [uri for uri in uris.values() if uri.rsplit("/", 1)[1] in FEEDS]
    did = session.app.service_did
    own = [record.uri for record in own_records(did).values()]
    return {"did": did, "feeds": [{"uri": uri} for uri in [*published, *own]]}


# getFeed


GET_OWN_FEED: RowPages[SkeletonItem] = RowPages(
    _own_feed,
    Steps(
        hydrate=lambda state, page: state.load_feed(page.items),
        rules=lambda state, page: shown_items(state, Place.FEED_ITEM, page.items),
        present=present_feed,
    ),
)


# feed generator records


def _find_generators(session: Session, params: Params) -> list[Address]:
    uris: list[str] = params.get("feeds") or [params["feed"]]
    if len(uris) > MAX_GENERATORS:
        raise XrpcError("InvalidRequest", f"at most {MAX_GENERATORS} feeds", 400)
    found = find_feed_addresses(session, uris)
    return list(dict.fromkeys(found[uri] for uri in uris if uri in found))


def _shown_generators(state: State, found: list[Address]) -> list[Address]:
    feeds = [a for a in found if a.collection == GENERATOR]
    return shown_records(state, Place.NAMED, feeds)


def _present_generator(
    state: State, found: list[Address], params: Params
) -> dict[str, Any]:
    if not found:
        raise XrpcError("InvalidRequest", "could not find feed", 400)
    view = generator_view(state, found[0])
    ours = view["did"] == state.session.app.service_did
    is_valid = not ours or view["uri"].rsplit("/", 1)[1] in FEEDS
    return {"view": view, "isOnline": True, "isValid": is_valid}


GET_FEED_GENERATOR: Pipeline[list[Address]] = Pipeline(
    skeleton=_find_generators,
    hydrate=lambda state, found: state.load_named(found),
    rules=_shown_generators,
    present=_present_generator,
)

GET_FEED_GENERATORS: Pipeline[list[Address]] = Pipeline(
    skeleton=_find_generators,
    hydrate=lambda state, found: state.load_named(found),
    rules=_shown_generators,
    present=lambda state, found, _: {
        "feeds": [generator_view(state, address) for address in found]
    },
)

METHODS: dict[str, Runnable] = {
    "app.bsky.feed.getFeedSkeleton": GET_FEED_SKELETON,
    "app.bsky.feed.getFeedGenerator": GET_FEED_GENERATOR,
    "app.bsky.feed.getFeedGenerators": GET_FEED_GENERATORS,
}

PLAIN_METHODS = {"app.bsky.feed.describeFeedGenerator": describe_feed_generator}
