"""The XRPC methods of the read side, put together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from appview.app import AppView
from appview.methods import actor, feeds, mirror, posts, repos, search
from appview.methods.foreign_feed import (
    GET_FEED,
    MAX_FOREIGN_PAGES,
    ForeignFeed,
    find_foreign_feed,
    forwarded_headers,
    hydrate_foreign,
)
from appview.own_feeds import own_handle
from appview.pipeline import Params, Pipeline
from appview.session import Session, session_of
from appview.streams.routes import add_subscription
from network.xrpc_server import Call, Reply, XrpcError, XrpcServer
from protocol.syntax import normalize_handle
from storage.addresses import find_handles

RESOLVE_HANDLE = "com.atproto.identity.resolveHandle"
REQUEST_CRAWL = "com.atproto.sync.requestCrawl"

PlainMethod = Callable[[Session, Params], dict[str, Any]]


def add_methods(server: XrpcServer, app: AppView) -> None:
    """Register every method of the read side on `server`."""
    pipelines: dict[str, Pipeline[Any]] = {
        **search.METHODS,
        **actor.METHODS,
        **posts.METHODS,
        **feeds.METHODS,
    }
    for nsid, pipeline in pipelines.items():
        server.add(nsid, _serve(app, pipeline.run), "optional")
    plain: dict[str, PlainMethod] = {**feeds.PLAIN_METHODS, **repos.METHODS}
    for nsid, method in plain.items():
        server.add(nsid, _serve(app, method), "optional")
    for nsid, handler in mirror.METHODS.items():
        server.add(nsid, partial(handler, app), "none")
    add_subscription(server, app)
    server.add(GET_FEED, _GetFeed(app), "optional")
    server.add(RESOLVE_HANDLE, _ResolveHandle(app), "none")
    server.add(REQUEST_CRAWL, _request_crawl(app), "none")


def _serve(app: AppView, method: PlainMethod) -> Callable[[Call], Reply]:
    def handler(call: Call) -> Reply:
        with session_of(app, call) as session:
            answer = method(session, call.params)
            return Reply(answer, headers=session.reply_headers())

    return handler


class _GetFeed:
    """app.bsky.feed.getFeed: ours is read at once, a foreign one is fetched first,
    with no database connection held meanwhile."""

    def __init__(self, app: AppView) -> None:
        self._app = app

    async def __call__(self, call: Call) -> Reply:
        foreign = await anyio.to_thread.run_sync(self._find_foreign, call)
        if foreign is None:
            return await anyio.to_thread.run_sync(
                _serve(self._app, feeds.GET_OWN_FEED.run), call
            )
        return await self._serve_foreign(foreign, call)

    async def _serve_foreign(self, foreign: ForeignFeed, call: Call) -> Reply:
        """Return the first page of which anything may be shown."""
        headers = forwarded_headers(call, foreign.service_did)
        cursor, reply = call.params.get("cursor"), None
        for _ in range(MAX_FOREIGN_PAGES):
            try:
                page = await self._app.fetch_skeleton(
                    foreign.service_did,
                    feed=foreign.uri,
                    limit=call.params["limit"],
                    cursor=cursor,
                    headers=headers,
                )
            except XrpcError:
                if reply is None:
                    raise
                # A service may take a token once: the client comes with the next.
                break
            run = hydrate_foreign(page).run
            reply = await anyio.to_thread.run_sync(_serve(self._app, run), call)
            cursor = page.cursor
            if cursor is None or reply.body["feed"]:
                break
        assert reply is not None
        return reply

    def _find_foreign(self, call: Call) -> ForeignFeed | None:
        uri = call.params["feed"]
        with session_of(self._app, call) as session:
            if feeds.find_algorithm(session, uri) is not None:
                return None
            return find_foreign_feed(session, uri)


class _ResolveHandle:
    """com.atproto.identity.resolveHandle: the index first, then the network."""

    def __init__(self, app: AppView) -> None:
        self._app = app

    async def __call__(self, call: Call) -> dict[str, str]:
        handle = normalize_handle(call.params["handle"])
        if handle == own_handle(self._app.service_did):
            return {"did": self._app.service_did}
        did = await anyio.to_thread.run_sync(self._look_up, handle)
        did = did or await self._app.resolve_handle(handle)
        if did is None:
            raise XrpcError("InvalidRequest", "Unable to resolve handle", 400)
        return {"did": did}

    def _look_up(self, handle: str) -> str | None:
        with self._app.pool.connection() as conn:
            return find_handles(conn, [handle]).get(handle)


def _request_crawl(app: AppView) -> Callable[[Call], None]:
    def handler(call: Call) -> None:
        with app.pool.connection() as conn:
            app.request_crawl(conn, call.input["hostname"])

    return handler
