"""The XRPC methods of the read side, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from appview.app import AppView
from appview.methods import (
    actor,
    author_feed,
    feeds,
    posts,
    search,
)
from appview.methods.foreign_feed import (
    GET_FEED,
    MAX_FOREIGN_PAGES,
    ForeignFeed,
    find_foreign_feed,
    forwarded_headers,
    hydrate_foreign,
)
from appview.own_feeds import own_handle
from appview.pipeline import Params, Runnable
from appview.session import RequestContext, Session, context_of
from appview.views.checked import load_catalog
from network.server.request_guard import client_key, resting
from network.xrpc.server import (
    Call,
    Reply,
    XrpcError,
    XrpcServer,
)
from protocol.syntax import normalize_handle
from storage.records.addresses import find_handles

RESOLVE_HANDLE = "com.atproto.identity.resolveHandle"
REQUEST_CRAWL = "com.atproto.sync.requestCrawl"

PlainMethod = Callable[[Session, Params], dict[str, Any]]
Method = Callable[[RequestContext, Params], dict[str, Any]]


def add_methods(server: XrpcServer, app: AppView) -> None:
    """Register every method of the read side on `server`."""
    load_catalog()
    methods: dict[str, Runnable] = {
        **search.METHODS,
        **actor.METHODS,
        **posts.METHODS,
        **author_feed.METHODS,
        **feeds.METHODS,
    }
    for nsid, method in methods.items():
        server.add(nsid, _serve(app, method.run), "optional")
    add_session_methods(server, app, feeds.PLAIN_METHODS)
    server.add(GET_FEED, _GetFeed(app, server), "optional")
    server.add(RESOLVE_HANDLE, _ResolveHandle(app, server), "none")
    server.add(REQUEST_CRAWL, _request_crawl(app), "none")


def add_session_methods(
    server: XrpcServer, app: AppView, methods: Mapping[str, PlainMethod]
) -> None:
    """Register methods that read in one session, without pages."""
    for nsid, read in methods.items():
        server.add(nsid, _serve(app, _in_session(read)), "optional")


def _serve(app: AppView, method: Method) -> Callable[[Call], Reply]:
    def handler(call: Call) -> Reply:
        context = context_of(app, call)
        try:
            answer = method(context, call.params)
        except XrpcError as error:
            error.headers.update(context.reply_headers())
            raise
        return Reply(answer, headers=context.reply_headers())

    return handler


def _in_session(method: PlainMethod) -> Method:
    def run(context: RequestContext, params: Params) -> dict[str, Any]:
        with context.session() as session:
            return method(session, params)

    return run


class _GetFeed:
    """app.bsky.feed.getFeed: ours is read at once, a foreign one is fetched first,
    with no database connection held meanwhile."""

    def __init__(self, app: AppView, server: XrpcServer) -> None:
        self._app = app
        self._run = server.run_handler

    async def __call__(self, call: Call) -> Reply:
        foreign = await self._run(self._find_foreign, call)
        if foreign is None:
            return await self._run(_serve(self._app, feeds.GET_OWN_FEED.run), call)
        return await self._serve_foreign(foreign, call)

    async def _serve_foreign(self, foreign: ForeignFeed, call: Call) -> Reply:
        """Return the first page of which anything may be shown."""
        headers = forwarded_headers(call, foreign.service_did)
        cursor, reply = call.params.get("cursor"), None
        for _ in range(MAX_FOREIGN_PAGES):
            try:
                async with resting(call.request.scope):
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
                break  # a service may take a token once
            run = hydrate_foreign(page).run
            reply = await self._run(_serve(self._app, run), call)
            cursor = page.cursor
            if cursor is None or reply.body["feed"]:
                break
        assert reply is not None
        if not reply.body["feed"]:
            # Clients take an empty page with a cursor for one to ask again for.
            reply.body.pop("cursor", None)
        return reply

    def _find_foreign(self, call: Call) -> ForeignFeed | None:
        uri = call.params["feed"]
        with context_of(self._app, call).session() as session:
            if feeds.find_algorithm(session, uri) is not None:
                return None
            return find_foreign_feed(session, uri)


class _ResolveHandle:
    """com.atproto.identity.resolveHandle: the index first, then the network.

    Of an account that has another handle here, no remembered answer serves.
    """

    def __init__(self, app: AppView, server: XrpcServer) -> None:
        self._app = app
        self._run = server.run_handler

    async def __call__(self, call: Call) -> dict[str, str]:
        handle = normalize_handle(call.params["handle"])
        if handle == own_handle(self._app.service_did):
            return {"did": self._app.service_did}
        did = await self._run(self._look_up, call)
        if did is None:
            async with resting(call.request.scope):
                did = await self._app.resolve_handle(handle)
            if did is not None and await self._run(self._is_checked(did), call):
                async with resting(call.request.scope):
                    did = await self._app.resolve_handle(handle, refresh=True)
        if did is None:
            raise XrpcError("InvalidRequest", "Unable to resolve handle", 400)
        return {"did": did}

    def _look_up(self, call: Call) -> str | None:
        handle = normalize_handle(call.params["handle"])
        with self._app.pool.connection() as conn:
            return find_handles(conn, [handle]).get(handle)

    def _is_checked(self, did: str) -> Callable[[Call], bool]:
        """Return a handler that tells if the index knows which handle `did` has."""

        def ask(_: Call) -> bool:
            with self._app.pool.connection() as conn:
                row = conn.execute(
                    "SELECT FROM actor"
                    " WHERE did = %s AND handle_checked_at IS NOT NULL",
                    (did,),
                ).fetchone()
            return row is not None

        return ask


def _request_crawl(app: AppView) -> Callable[[Call], Awaitable[None]]:
    async def handler(call: Call) -> None:
        client = client_key(call.request.scope)
        async with resting(call.request.scope):
            await app.request_crawl(call.input["hostname"], client)

    return handler
