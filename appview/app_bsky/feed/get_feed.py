"""app.bsky.feed.getFeed: the provider's own feeds, and those of other services."""

from __future__ import annotations

from functools import partial
from typing import Final
from urllib.parse import unquote

from appview.app import AppView
from appview.pipeline import Handler
from appview.session import context_of
from appview.shapes.feed import OwnFeedPages, own_feed, own_feed_pages
from appview.shapes.foreign_feed import foreign_feed
from appview.skeletons.generators import ForeignFeed, find_foreign_feed, find_served
from network.server.admission import resting
from network.xrpc.server import AuthMode, Call, Reply, XrpcError, XrpcServer

_FORWARDED_HEADERS: Final = ("accept-language", "x-bsky-topics")
MAX_FOREIGN_PAGES: Final = 3
"""Pages fetched for one answer while the rules hide all of their items."""

OWN_FEED: Final = OwnFeedPages(own_feed_pages(own_feed))


class _GetFeed:
    """No database connection is held while another service answers."""

    auth: AuthMode = "optional"

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        def find_foreign(call: Call) -> ForeignFeed | None:
            uri = call.params["feed"]
            with context_of(app, call).session() as session:
                if find_served(session, uri) is not None:
                    return None
                return find_foreign_feed(session, uri)

        async def answer(call: Call) -> Reply:
            foreign = await server.run_handler(find_foreign, call)
            if foreign is None:
                return await server.run_handler(partial(OWN_FEED.answer, app), call)
            return await _answer_foreign(app, server, foreign, call)

        return answer


async def _answer_foreign(
    app: AppView, server: XrpcServer, foreign: ForeignFeed, call: Call
) -> Reply:
    """Return the first page with an item that may be shown."""
    headers = forwarded_headers(call, foreign.service_did)
    cursor, reply = call.params.get("cursor"), None
    for _ in range(MAX_FOREIGN_PAGES):
        try:
            async with resting(call.request.scope):
                skeleton = await app.fetch_skeleton(
                    foreign.service_did,
                    feed=foreign.uri,
                    limit=call.params["limit"],
                    cursor=cursor,
                    headers=headers,
                )
        except XrpcError:
            if reply is None:
                raise
            break  # a service may accept a token only once
        page = foreign_feed(skeleton)
        reply = await server.run_handler(partial(page.answer, app), call)
        cursor = skeleton.cursor
        if cursor is None or reply.body["feed"]:
            break
    assert reply is not None
    if not reply.body["feed"]:
        # Clients repeat the request for an empty page with a cursor.
        reply.body.pop("cursor", None)
    return reply


def forwarded_headers(call: Call, service_did: str) -> dict[str, str]:
    """Return the request headers that are forwarded to the service of a feed.

    A token is forwarded only to its audience: any other service could use it to act
    for the viewer.
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


METHOD: Final = _GetFeed()
