"""The provider: search, feeds and views over XRPC, its DID document, and the pages.

This module is the composition root of the read side.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, nullcontext
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from appview import server as appview
from appview.app import AppView, ClientSettings
from appview.foreign_blobs import ForeignBlobs
from appview.foreign_feeds import ForeignFeeds
from appview.network_reads import Online
from appview.own_feeds import own_handle
from crawler.hosts.crawl_requests import CrawlRequests
from crawler.identities.identity_cache import PostgresIdentityCache
from feeds.feed_counters import FeedCounters
from feeds.scripts.script_book import ScriptBook
from feeds.served_feeds import ServedFeeds
from indexer.repos.export import open_export
from labels.own_labels import add_label_subscription
from mirror import mirror_methods as mirror
from mirror.stream_routes import stream_routes
from network.errors import IdentityError, NetworkError
from network.http.client import Fetcher
from network.http.dns import DnsTxtLookup
from network.http.policy import HostLimits
from network.identity.jti import ThreadedJtiStore
from network.identity.lexicon_source import LexiconSource
from network.identity.resolver import IdentityResolver
from network.identity.service_authenticator import ServiceAuthenticator
from network.server.request_guard import RequestGuard
from network.server.spool import Spooler
from network.xrpc.server import THREADS, XrpcServer
from plc.lookup import MirrorLookup
from protocol.identity.did_document import LABEL_KEY, MULTIKEY_TYPE
from protocol.lexicon import Catalog
from service.feed_upkeep import feed_upkeep
from service.moderation import Moderation
from service.outgoing import make_fetcher, make_resolver
from service.pushes import make_pusher
from service.recipe_files import recipe_folder
from service.runtime.client_settings import live_domains, read_age_assurance
from service.runtime.config import Config
from service.runtime.crawl_settings import crawl_settings
from service.runtime.search_engines import make_engine
from service.runtime.secrets import (
    SecretStore,
    admin_password,
    label_key,
    private_vault,
)
from service.runtime.serving_process import ALONE, ServingProcess
from service.web.image_cache import ImageCache
from service.web.images import IMAGE_LIMITS, Images
from service.web.moderation_page import moderation_routes
from service.web.operator_access import for_operator
from service.web.routes import page_routes, show_unknown_paths
from service.web.status_page import status_route
from storage.postgres.pool import Pool, end_idle_transactions, open_pool, ping
from storage.private.mutes import seal_plain_mutes
from storage.private.private_store import PrivateStore
from storage.records.interning import Interner
from storage.repos.issuers import is_issuer_active
from storage.repos.jti import use_jti

SERVICES = {
    "bsky_appview": "BskyAppView",
    "bsky_notif": "BskyNotificationService",
    "bigworld": "BigworldProvider",
    "bigworld_search": "BigworldSearch",
    "bsky_fg": "BskyFeedGenerator",
    "atproto_labeler": "AtprotoLabeler",
}
"""Fragments of the provider's DID document, and their types."""
PUSH_SERVICE = ("bsky_notif", "BskyNotificationService")
"""The service at which PDSes register devices, if pushes are sent."""
GET_FEED = "app.bsky.feed.getFeed"
TOKEN_METHODS = {
    GET_FEED: ("app.bsky.feed.getFeedSkeleton",),
    "app.bsky.feed.getPosts": ("chat.bsky.*",),
    "app.bsky.actor.getProfiles": ("chat.bsky.*",),
}
"""Other values of `lxm` that tokens carry for a method in practice."""

FEED_SERVICE_LIMITS = HostLimits(rate=50, burst=100, concurrency=16, max_wait=5)
"""Limits of requests to one feed service, shared by all readers of its feeds."""

MAX_WAIT_S = 1.0
"""Seconds that a request waits for a connection before it gets a 503."""
_START_S = 30.0
_MAX_SPOOLED = 2 * 1024**3
"""Bytes of spooled replies of all processes."""
_MORE_CONNECTIONS = 8
"""Connections for event streams and spools, besides those of the handler threads."""


def services(config: Config) -> dict[str, str]:
    """Return the services of the provider by fragment."""
    return SERVICES | (dict([PUSH_SERVICE]) if config.push_webhook_url else {})


def did_document(config: Config) -> dict[str, Any]:
    """Return the document of the provider's did:web."""
    did = config.web_did
    handle = own_handle(did)
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": did,
        **({"alsoKnownAs": [f"at://{handle}"]} if handle else {}),
        "verificationMethod": [
            {
                "id": f"{did}{LABEL_KEY}",
                "type": MULTIKEY_TYPE,
                "controller": did,
                "publicKeyMultibase": label_key(config).public.multikey,
            }
        ],
        "service": [
            {"id": f"#{name}", "type": kind, "serviceEndpoint": config.provider_url}
            for name, kind in services(config).items()
        ],
    }


def audiences(config: Config) -> frozenset[str]:
    """Return the accepted audiences of tokens: each DID alone and with a service."""
    names = {config.provider_did, config.web_did, *config.audiences}
    dids = [name for name in names if "#" not in name]
    return frozenset(
        names | {f"{did}#{name}" for did in dids for name in services(config)}
    )


def make_appview(
    config: Config,
    pool: Pool,
    private: Pool,
    resolver: IdentityResolver,
    fetcher: Fetcher,
    blob_fetcher: Fetcher,
    process: ServingProcess = ALONE,
) -> AppView:
    """Return the read side with its dependencies.

    `blob_fetcher` has limits of its own: blobs must not use up those of other requests.
    """

    async def resolve_handle(handle: str, *, refresh: bool = False) -> str | None:
        try:
            return await resolver.resolve_handle(handle, refresh=refresh)
        except (IdentityError, NetworkError):
            return None

    return AppView(
        pool=pool,
        private=PrivateStore(private),
        vault=private_vault(config),
        engine=make_engine(config, pool),
        cursor_secret=SecretStore(config.home).key("cursors"),
        service_did=config.provider_did,
        resolve_handle=resolve_handle,
        fetch_skeleton=ForeignFeeds(resolver, fetcher),
        request_crawl=CrawlRequests(
            pool, fetcher, crawl_settings(config), shared=process.buckets
        ),
        export_repo=open_export,
        spooler=Spooler(total=_MAX_SPOOLED // process.count, folder=config.home),
        cdn_url_pattern=config.cdn_url_pattern,
        video_url_pattern=config.video_url_pattern,
        trusted_verifiers=config.trusted_verifiers,
        client_settings=ClientSettings(
            age_assurance=read_age_assurance(config.age_assurance),
            live_now=live_domains(config.live_now),
            check_email_confirmed=config.check_email_confirmed,
            privacy_policy=config.privacy_policy_url,
            terms_of_service=config.terms_url,
        ),
        feeds=ServedFeeds(scripts=ScriptBook(recipe_folder(config))),
        feed_counters=FeedCounters(SecretStore(config.home).key("feed-readers")),
        sends_pushes=config.push_webhook_url is not None,
        shared_buckets=process.buckets,
        keeps_events=config.event_log,
        network=Online(
            resolver,
            LexiconSource(fetcher, resolver, DnsTxtLookup()),
            ForeignBlobs(blob_fetcher, config.home),
        ),
        default_labelers=(config.provider_did, *config.subscribed_labelers),
    )


def _encrypt_mutes(config: Config, private: Pool) -> None:
    """Encrypt the mutes that an earlier version stored."""
    vault = private_vault(config)
    moved = 1
    while moved:
        with private.connection() as conn:
            moved = seal_plain_mutes(conn, vault)


def make_server(
    config: Config,
    app: AppView,
    resolver: IdentityResolver,
    *,
    observe: Callable[[str, int, float], None] | None = None,
    check_output: bool = False,
) -> XrpcServer:
    """Return the server of all XRPC methods, with service authentication."""

    def use_once(iss: str, jti: str, exp: int) -> bool:
        with app.pool.connection() as conn:
            return use_jti(conn, iss, jti, exp)

    threads = CapacityLimiter(THREADS)

    def find_active(did: str) -> bool:
        with app.pool.connection() as conn:
            return is_issuer_active(conn, did)

    async def is_active(did: str) -> bool:
        return await run_sync(find_active, did, limiter=threads)

    check_token = ServiceAuthenticator(
        resolver,
        audiences(config),
        jti_store=ThreadedJtiStore(use_once, threads, shared=app.shared_buckets),
        use_policy=config.token_use,
        is_active=is_active,
        lxm=TOKEN_METHODS,
        # For getFeed a PDS issues the token to the service of the feed.
        any_audience=[GET_FEED],
    )
    server = XrpcServer(
        Catalog.load(),
        authenticate=check_token,
        guard=RequestGuard(config.guard_policy, shared=app.shared_buckets),
        observe=observe,
        check_output=check_output,
        title="Bigworld provider",
        ready=lambda: ping(app.pool),
        threads=threads,
    )
    appview.add_methods(server, app)
    mirror.add_methods(server, app)
    add_label_subscription(server, app.private)
    return server


def create_app(
    config: Config,
    url: str,
    private_url: str | None = None,
    *,
    operator_routes: Sequence[Route] = (),
    observe: Callable[[str, int, float], None] | None = None,
    check_output: bool = False,
    process: ServingProcess = ALONE,
) -> Starlette:
    """Return the provider on the index at `url`; pools close with the app.

    Private state is in the database at `private_url`, by default beside the index.

    `operator_routes` require the operator's password. With several processes the first
    one does what must be done once.
    """
    resources = ExitStack()
    # Each thread that answers requests needs one connection.
    pool = resources.enter_context(
        open_pool(
            url,
            min=4,
            max=THREADS + _MORE_CONNECTIONS,
            name="provider",
            timeout=MAX_WAIT_S,
            prepare=end_idle_transactions,
        )
    )
    private = resources.enter_context(
        open_pool(
            private_url or url,
            min=1,
            max=THREADS,
            name="private",
            timeout=MAX_WAIT_S,
            prepare=end_idle_transactions,
        )
    )
    names = resources.enter_context(
        open_pool(url, max=4, name="provider-names", timeout=MAX_WAIT_S)
    )
    # A database that has just started may be slow.
    names.wait(_START_S)
    private.wait(_START_S)
    if process.is_first:
        _encrypt_mutes(config, private)
    mine = process.part_of_settings(config)
    fetcher = make_fetcher(mine, limits=process.part_of(FEED_SERVICE_LIMITS))
    resolver = make_resolver(
        mine,
        fetcher,
        PostgresIdentityCache(names),
        MirrorLookup(names, config.directory_url) if config.plc_mirror else None,
    )
    # A separate client: images must not use up the limits of other requests.
    image_fetcher = make_fetcher(mine, limits=process.part_of(IMAGE_LIMITS))
    app = make_appview(config, pool, private, resolver, fetcher, image_fetcher, process)
    moderation = Moderation(config, pool, app.private, Interner(names))
    server = make_server(
        config, app, resolver, observe=observe, check_output=check_output
    )

    def is_taken_down(did: str, cid: bytes) -> bool:
        taken = app.takedowns.current(app.private)
        return did in taken.accounts or taken.has_blob(did, cid)

    images = None
    if config.cdn_url_pattern is None:
        cache = ImageCache(config.home / "images", mine.image_cache_mb * 1_000_000)
        images = Images(pool, image_fetcher, cache, server.threads, is_taken_down)

    pusher = make_pusher(config, app) if process.is_first else nullcontext()

    async def serve_did(request: Request) -> Response:
        return JSONResponse(did_document(config))

    async def serve_handle(request: Request) -> Response:
        if own_handle(config.web_did) is None:
            return PlainTextResponse("no account has this handle", 404)
        return PlainTextResponse(config.web_did)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with resources, pusher, feed_upkeep(app):
            async with fetcher, image_fetcher:
                yield

    served = server.app(
        [
            Route("/.well-known/did.json", serve_did),
            Route("/.well-known/atproto-did", serve_handle),
            *stream_routes(app),
            *page_routes(app, crawl_settings(config), server.threads, images),
            *for_operator(
                [
                    status_route(app, server.threads),
                    *moderation_routes(app, moderation, server.threads),
                    *operator_routes,
                ],
                admin_password(config),
            ),
        ],
        lifespan=lifespan,
    )
    show_unknown_paths(served, app)
    return served
