"""The provider: search, feeds and views over XRPC, its DID document, and the pages.

The composition root of the read side: one page that shows what it is made of.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from appview.app import AppView
from appview.server import add_methods
from appview.streams.routes import stream_routes
from crawler.discovery import HostRefusedError, request_crawl
from crawler.identity_cache import PostgresIdentityCache
from indexer.export import open_export
from network.client import Fetcher
from network.errors import IdentityError, NetworkError
from network.identity import IdentityResolver
from network.jti import ThreadedJtiStore
from network.request_guard import RequestGuard
from network.service_authenticator import ServiceAuthenticator
from network.xrpc_server import Auth, XrpcError, XrpcServer
from plc.lookup import MirrorLookup
from protocol.lexicon import Catalog
from search.postgres import PostgresEngine
from service.config import Config
from service.crawl_settings import crawl_settings
from service.foreign_feeds import ForeignFeeds
from service.outgoing import make_fetcher, make_resolver
from service.pages.routes import page_routes
from service.secrets import SecretStore
from storage.interning import Interner
from storage.jti import use_jti
from storage.pool import open_pool

SERVICES = {
    "bsky_appview": "BskyAppView",
    "bigworld": "BigworldProvider",
    "bsky_fg": "BskyFeedGenerator",
}
"""Fragments of the provider's DID document, and their types."""
GET_FEED = "app.bsky.feed.getFeed"
GET_FEED_SKELETON = "app.bsky.feed.getFeedSkeleton"

Pool = ConnectionPool[psycopg.Connection[Any]]


def did_document(config: Config) -> dict[str, Any]:
    """What `did:web` of the provider resolves to."""
    did = config.provider_did
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": did,
        "service": [
            {"id": f"#{name}", "type": kind, "serviceEndpoint": config.provider_url}
            for name, kind in SERVICES.items()
        ],
    }


def make_appview(
    config: Config,
    pool: Pool,
    names: Pool,
    resolver: IdentityResolver,
    fetcher: Fetcher,
) -> AppView:
    """The read side with everything it reaches."""
    limits = crawl_settings(config)

    def admit_host(conn: psycopg.Connection[Any], hostname: str) -> None:
        try:
            request_crawl(conn, hostname, limits)
        except HostRefusedError as error:
            raise XrpcError(error.name, str(error), 400) from error

    async def resolve_handle(handle: str, *, refresh: bool = False) -> str | None:
        try:
            return await resolver.resolve_handle(handle, refresh=refresh)
        except (IdentityError, NetworkError):
            return None

    return AppView(
        pool=pool,
        interner=Interner(names),
        engine=PostgresEngine(pool),
        cursor_secret=SecretStore(config.home).key("cursors"),
        service_did=config.provider_did,
        resolve_handle=resolve_handle,
        fetch_skeleton=ForeignFeeds(resolver, fetcher),
        request_crawl=admit_host,
        export_repo=open_export,
        keeps_events=config.event_log,
    )


def make_server(
    config: Config,
    app: AppView,
    resolver: IdentityResolver,
    *,
    observe: Callable[[str, int, float], None] | None = None,
    check_output: bool = False,
) -> XrpcServer:
    """All XRPC methods behind service authentication."""

    def use_once(iss: str, jti: str, exp: int) -> bool:
        with app.pool.connection() as conn:
            return use_jti(conn, iss, jti, exp)

    audiences = [config.provider_did]
    audiences += [f"{config.provider_did}#{name}" for name in SERVICES]
    check_token = ServiceAuthenticator(
        resolver,
        audiences,
        jti_store=ThreadedJtiStore(use_once),
        lxm={GET_FEED: (GET_FEED_SKELETON,)},
    )

    async def authenticate(request: Request, nsid: str) -> Auth | None:
        try:
            return await check_token(request, nsid)
        except XrpcError as error:
            # For getFeed a PDS makes the token out to the feed's own service: it is
            # passed on there, and proves nothing to us.
            if nsid == GET_FEED and error.name == "BadJwtAudience":
                return None
            raise

    server = XrpcServer(
        Catalog.load(),
        authenticate=authenticate,
        guard=RequestGuard(),
        observe=observe,
        check_output=check_output,
        title="Bigworld provider",
    )
    add_methods(server, app)
    return server


def create_app(
    config: Config,
    url: str,
    *,
    extra_routes: Callable[[AppView, XrpcServer], Sequence[BaseRoute]] | None = None,
    observe: Callable[[str, int, float], None] | None = None,
    check_output: bool = False,
) -> Starlette:
    """The provider on the index database at `url`. Pools close with the app."""
    resources = ExitStack()
    pool = resources.enter_context(open_pool(url, max=12, name="provider"))
    names = resources.enter_context(open_pool(url, max=4, name="provider-names"))
    fetcher = make_fetcher(config)
    resolver = make_resolver(
        config,
        fetcher,
        PostgresIdentityCache(names),
        MirrorLookup(names, config.directory_url) if config.plc_mirror else None,
    )
    app = make_appview(config, pool, names, resolver, fetcher)
    server = make_server(
        config, app, resolver, observe=observe, check_output=check_output
    )

    async def serve_did(request: Request) -> Response:
        return JSONResponse(did_document(config))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with resources:
            async with fetcher:
                yield

    return server.app(
        [
            Route("/.well-known/did.json", serve_did),
            *stream_routes(app),
            *page_routes(app, crawl_settings(config)),
            *(extra_routes(app, server) if extra_routes else ()),
        ],
        lifespan=lifespan,
    )
