"""app.bsky.feed.getAuthorFeed, getFeed, getFeedSkeleton, getFeedGenerator(s),
describeFeedGenerator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appview.hydration.records import GENERATOR, POST
from appview.hydration.state import State
from appview.own_feeds import find_feed_addresses, own_records
from appview.pipeline import Params, Pipeline
from appview.rules import Place, refuse_author, shown_items, shown_records
from appview.session import Session
from appview.views.named import generator_view
from appview.views.post import feed_view_post
from feeds.registry import FEEDS
from feeds.skeleton import (
    Algorithm,
    FeedRequest,
    Skeleton,
    SkeletonItem,
    ViewerRequiredError,
)
from network.xrpc_server import XrpcError
from protocol.syntax import parse_at_uri
from storage.addresses import find_addresses, name_addresses
from storage.collections import COLLECTION_IDS, FEED_GENERATOR, FEED_REPOST
from storage.collections import REPOST_SUBJECT as REPOST
from storage.documents import Address

SKELETON_REPOST = "app.bsky.feed.defs#skeletonReasonRepost"
MAX_GENERATORS = 150
_MEDIA_IMAGES, _MEDIA_VIDEO = 1, 2
_REPOST_COLLECTION = COLLECTION_IDS[FEED_REPOST]


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A page of a feed; `cursor` is what a foreign generator gave, as it gave it."""

    items: list[SkeletonItem]
    after: list[Any] | None = None
    cursor: str | None = None
    author: int | None = None


def _shown(state: State, page: FeedPage) -> FeedPage:
    items = shown_items(state, Place.FEED_ITEM, page.items)
    return FeedPage(items, page.after, page.cursor)


def _present(state: State, page: FeedPage, _: Params) -> dict[str, Any]:
    cursor = {"cursor": page.cursor} if page.cursor else {}
    return {
        "feed": [feed_view_post(state, item) for item in page.items],
        **(cursor or state.session.seal_cursor(page.after)),
    }


# author feed


def _find_author_feed(session: Session, params: Params) -> FeedPage:
    actor = session.find_actor(params["actor"])
    if actor is None:
        raise XrpcError("InvalidRequest", "Profile not found", 400)
    wanted = params.get("filter", "posts_with_replies")
    conditions = {
        "posts_no_replies": "AND parent_rkey IS NULL",
        "posts_with_media": f"AND media & {_MEDIA_IMAGES | _MEDIA_VIDEO} <> 0",
        "posts_with_video": f"AND media & {_MEDIA_VIDEO} <> 0",
        "posts_and_author_threads": (
            "AND (parent_actor IS NULL"
            " OR (parent_actor = post.actor AND root_actor = post.actor))"
        ),
    }
    reposts = "WHERE false" if "media" in wanted or "video" in wanted else ""
    after = session.open_cursor(params.get("cursor"))
    at, rkey = after or (253_402_300_799_000_000, 2**63 - 1)
    limit = params["limit"]
    rows = session.conn.execute(
        f"""
        SELECT micros, rkey, post_actor, post_rkey FROM (
            SELECT * FROM (
                SELECT round(extract(epoch FROM sort_at) * 1000000)::int8 AS micros,
                       rkey, actor AS post_actor, rkey AS post_rkey FROM post
                WHERE actor = %(actor)s AND sort_at <= to_timestamp(%(at)s / 1e6)
                      {conditions.get(wanted, "")}
                ORDER BY sort_at DESC LIMIT %(limit)s
            ) posts
            UNION ALL
            SELECT * FROM (
                SELECT rkey >> 10, rkey, target_actor, target_rkey FROM link
                WHERE path = %(repost)s AND actor = %(actor)s
                  AND rkey BETWEEN 1 AND %(bound)s AND target_collection = %(post)s
                ORDER BY rkey DESC LIMIT %(limit)s
            ) reposts {reposts}
        ) entries
        WHERE (micros, rkey) < (%(at)s, %(rkey)s)
        ORDER BY micros DESC, rkey DESC LIMIT %(limit)s
        """,
        {
            "actor": actor,
            "at": at,
            "rkey": rkey,
            "bound": min((at << 10) | 1023, 2**63 - 1),
            "repost": REPOST,
            "post": POST,
            "limit": limit + 1,
        },
    ).fetchall()
    page = rows[:limit]
    items = [
        SkeletonItem(
            Address(post_actor, POST, post_rkey),
            None
            if (post_actor, post_rkey) == (actor, key)
            else Address(actor, _REPOST_COLLECTION, key),
        )
        for _, key, post_actor, post_rkey in page
    ]
    last = list(page[-1][:2]) if len(rows) > limit else None
    return FeedPage(items, last, author=actor)


def _load_author_feed(state: State, page: FeedPage) -> None:
    state.load_feed(page.items)
    if page.author is not None:
        state.load_actors([page.author])


def _author_rules(state: State, page: FeedPage) -> FeedPage:
    assert page.author is not None
    refuse_author(state, page.author)
    items = shown_items(state, Place.AUTHOR_ITEM, page.items)
    return FeedPage(items, page.after, page.cursor)


GET_AUTHOR_FEED: Pipeline[FeedPage] = Pipeline(
    skeleton=_find_author_feed,
    hydrate=_load_author_feed,
    rules=_author_rules,
    present=_present,
)


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


def build_page(session: Session, algorithm: Algorithm, params: Params) -> Skeleton:
    """One page of an algorithm of ours."""
    request = FeedRequest(
        viewer=session.viewer_actor,
        limit=params["limit"],
        after=session.open_cursor(params.get("cursor")),
    )
    try:
        return algorithm.build(session.conn, request)
    except ViewerRequiredError as error:
        raise XrpcError("AuthMissing", str(error), 401) from error


def get_feed_skeleton(session: Session, params: Params) -> dict[str, Any]:
    """Only the AT-URIs: what an AppView asks of a feed generator."""
    algorithm = find_algorithm(session, params["feed"])
    if algorithm is None:
        raise XrpcError("UnknownFeed", f"not served here: {params['feed']}", 400)
    page = build_page(session, algorithm, params)
    wanted = {a for i in page.items for a in (i.post, i.repost) if a is not None}
    uris = name_addresses(session.app.interner, wanted)
    feed: list[dict[str, Any]] = []
    for item in page.items:
        entry: dict[str, Any] = {"post": uris[item.post]}
        if item.repost is not None:
            entry["reason"] = {"$type": SKELETON_REPOST, "repost": uris[item.repost]}
        feed.append(entry)
    return {"feed": feed, **session.seal_cursor(page.after)}


def describe_feed_generator(session: Session, params: Params) -> dict[str, Any]:
    """The feeds that this service computes."""
    rows = session.conn.execute(
        "SELECT actor, rkey FROM feed_generator WHERE service_did = %s "
        "ORDER BY actor, rkey LIMIT %s",
        (session.app.service_did, MAX_GENERATORS),
    ).fetchall()
    uris = name_addresses(
        session.app.interner, [Address(actor, GENERATOR, rkey) for actor, rkey in rows]
    )
    published = [uri for uri in uris.values() if uri.rsplit("/", 1)[1] in FEEDS]
    did = session.app.service_did
    own = [record.uri for record in own_records(did).values()]
    return {"did": did, "feeds": [{"uri": uri} for uri in [*published, *own]]}


# getFeed


def _find_own_feed(session: Session, params: Params) -> FeedPage:
    algorithm = find_algorithm(session, params["feed"])
    assert algorithm is not None, "asked before"
    page = build_page(session, algorithm, params)
    return FeedPage(page.items, page.after)


GET_OWN_FEED: Pipeline[FeedPage] = Pipeline(
    skeleton=_find_own_feed,
    hydrate=lambda state, page: state.load_feed(page.items),
    rules=_shown,
    present=_present,
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
    is_valid = not ours or found[0].rkey in _own_rkeys(state)
    return {"view": view, "isOnline": True, "isValid": is_valid}


def _own_rkeys(state: State) -> set[int]:
    names = state.session.app.interner
    return {n for name in FEEDS if (n := names.find_rkey(name)) is not None}


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

METHODS: dict[str, Pipeline[Any]] = {
    "app.bsky.feed.getAuthorFeed": GET_AUTHOR_FEED,
    "app.bsky.feed.getFeedGenerator": GET_FEED_GENERATOR,
    "app.bsky.feed.getFeedGenerators": GET_FEED_GENERATORS,
}

PLAIN_METHODS = {
    "app.bsky.feed.getFeedSkeleton": get_feed_skeleton,
    "app.bsky.feed.describeFeedGenerator": describe_feed_generator,
}
