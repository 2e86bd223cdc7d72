"""The XRPC methods of the read side, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from appview.app import AppView
from appview.methods import actor, feeds, mirror, posts, repos, search
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
        server.add(nsid, _bind(app, handler), "none")
    add_subscription(server, app)
    server.add(feeds.GET_FEED, _GetFeed(app), "optional")
    server.add(RESOLVE_HANDLE, _ResolveHandle(app), "none")
    server.add(REQUEST_CRAWL, _request_crawl(app), "none")


def _serve(app: AppView, method: PlainMethod) -> Callable[[Call], Reply]:
    def handler(call: Call) -> Reply:
        with session_of(app, call) as session:
            answer = method(session, call.params)
            return Reply(answer, headers=session.reply_headers())

    return handler


def _bind(
    app: AppView, method: Callable[[AppView, Call], Reply]
) -> Callable[[Call], Reply]:
    def handler(call: Call) -> Reply:
        return method(app, call)

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
        page = await self._app.fetch_skeleton(
            foreign.service_did,
            feed=foreign.uri,
            limit=call.params["limit"],
            cursor=call.params.get("cursor"),
            # A token made out to us is of no use to others, and not theirs to see.
            authorization=None if call.auth else call.headers.get("authorization"),
        )
        pipeline = feeds.hydrate_foreign(page.items, page.cursor)
        return await anyio.to_thread.run_sync(_serve(self._app, pipeline.run), call)

    def _find_foreign(self, call: Call) -> feeds.ForeignFeed | None:
        uri = call.params["feed"]
        with session_of(self._app, call) as session:
            if feeds.find_algorithm(session, uri) is not None:
                return None
            return feeds.find_foreign_feed(session, uri)


class _ResolveHandle:
    """com.atproto.identity.resolveHandle: the index first, then the network.

    Of an account that has another handle here, no remembered answer serves.
    """

    def __init__(self, app: AppView) -> None:
        self._app = app

    async def __call__(self, call: Call) -> dict[str, str]:
        handle = normalize_handle(call.params["handle"])
        did = await anyio.to_thread.run_sync(self._look_up, handle)
        if did is None:
            did = await self._app.resolve_handle(handle)
            if did is not None and await self._is_checked(did):
                did = await self._app.resolve_handle(handle, refresh=True)
        if did is None:
            raise XrpcError("HandleNotFound", f"Unable to resolve handle: {handle}")
        return {"did": did}

    def _look_up(self, handle: str) -> str | None:
        with self._app.pool.connection() as conn:
            return find_handles(conn, [handle]).get(handle)

    async def _is_checked(self, did: str) -> bool:
        """Return True if the index knows which handle an account has."""

        def ask() -> bool:
            with self._app.pool.connection() as conn:
                row = conn.execute(
                    "SELECT FROM actor WHERE did = %s"
                    " AND handle_checked_at IS NOT NULL",
                    (did,),
                ).fetchone()
            return row is not None

        return await anyio.to_thread.run_sync(ask)


def _request_crawl(app: AppView) -> Callable[[Call], None]:
    def handler(call: Call) -> None:
        with app.pool.connection() as conn:
            app.request_crawl(conn, call.input["hostname"])

    return handler
