"""One Personal Data Server as an ASGI app: its parts, wired."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg_pool import PoolTimeout
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from network.errors import XrpcError
from network.http.client import Fetcher
from network.http.policy import Policy
from network.identity.resolver import IdentityResolver
from network.server.admission import identify
from network.server.request_guard import RequestGuard
from network.server.spool import Spooler
from network.streams.stream_server import StreamServer
from network.xrpc.request_body import read_body
from network.xrpc.server import Auth, XrpcServer
from pds.admin import account_methods, invite_admin_methods, subject_methods
from pds.blobs import sweep_blobs
from pds.context import KeyRing, PdsContext, auth_of, now_us, utc_now
from pds.exceptions import AuthMissingError, InvalidTokenError
from pds.identity import identity_methods, plc_methods, resolution_methods
from pds.identity.directory import Directory
from pds.identity.vault import Vault, derive_key
from pds.mail import Mailer
from pds.proxy import (
    MAX_REQUEST_BYTES,
    PROTECTED_METHODS,
    ServiceProxy,
)
from pds.rate_limits import MethodLimits
from pds.read_after_write.answers import ReadAfterWrite
from pds.repo import import_methods, repo_methods
from pds.repo.block_rows import NodeCache
from pds.repo.repo_import import RepoImporter, Spill
from pds.repo.repo_writes import RepoWriter
from pds.server import (
    app_password_methods,
    email_methods,
    invite_methods,
    preferences,
    server_methods,
    sign_up,
    status_methods,
)
from pds.server.accounts import require_writable
from pds.server.app_passwords import AppPasswords
from pds.server.email_tokens import EmailTokens, prune_tokens
from pds.server.operator_login import OperatorLogin, is_operator_method
from pds.server.passwords import HashQueue
from pds.server.scopes import CREATE_REPORT, may_forward, require_scope
from pds.server.sessions import Login, Sessions
from pds.settings import PdsSettings
from pds.sync import sync_methods
from pds.sync.crawl_notice import CrawlNotice
from pds.sync.sequencer import StoredEvents, listen, prune
from pds.upstream import Upstream, choose_service
from protocol.lexicon import Catalog
from protocol.syntax import Did, TidClock, is_nsid
from storage.postgres.pool import Pool, ping

log = logging.getLogger(__name__)

_HOUSEKEEPING_SECONDS: Final = 600.0
_CLOCK_IDS: Final = 1024
_NO_SUCH_METHOD: Final = ("MethodNotImplemented", "Method Not Implemented", 501)


def create_app(
    settings: PdsSettings,
    pool: Pool,
    *,
    fetcher: Fetcher | None = None,
    identity: IdentityResolver | None = None,
    catalog: Catalog | None = None,
    guard: RequestGuard | None = None,
    open_spill: Callable[[], Spill] | None = None,
) -> Starlette:
    """Return the app of a server on a database migrated to `pds`.

    A given `fetcher` must be open while the app runs; the app's own opens and closes
    with it. `identity` resolves on the network of `settings.plc_url`. `catalog` has the
    lexicons of records (default: the official ones). `open_spill` makes a mapping on
    disk for repos to import; the default is memory, up to 64 MiB.
    """
    own_fetcher = None
    if fetcher is None:
        fetcher = own_fetcher = Fetcher(Policy(allow_loopback=settings.dev))
    if identity is None:
        identity = IdentityResolver(
            fetcher, settings.plc_url, dev=settings.dev, dev_pds=settings.dev_pds_urls
        )
    host = _build_host(settings, pool, fetcher, identity, catalog or Catalog.load())
    gate = _Gate(host)
    server = XrpcServer(
        host.catalog,
        authenticate=gate.authenticate,
        fallback=gate.proxy,
        guard=guard or RequestGuard(),
        title="Bigworld PDS",
        ready=lambda: ping(pool),
    )
    server_methods.add_methods(server, host)
    sign_up.add_methods(server, host)
    status_methods.add_methods(server, host)
    invite_methods.add_methods(server, host)
    app_password_methods.add_methods(server, host)
    email_methods.add_methods(server, host)
    repo_methods.add_methods(
        server, host, RepoWriter(host.nodes, host.clock, host.keys.signing_key)
    )
    importer = RepoImporter(host.clock, host.keys.signing_key, open_spill)
    import_methods.add_methods(server, host, importer)
    sync_methods.add_methods(server, host)
    account_methods.add_methods(server, host)
    subject_methods.add_methods(server, host)
    invite_admin_methods.add_methods(server, host)
    identity_methods.add_methods(server, host)
    plc_methods.add_methods(server, host)
    resolution_methods.add_methods(server, host)
    preferences.add_methods(server, host)
    stream = StreamServer(host.events)
    server.route_subscription("com.atproto.sync.subscribeRepos", stream)
    return server.app(
        [Route("/", _greet), *identity_methods.well_known_routes(host)],
        lifespan=lambda app: _lifespan(host, stream, own_fetcher),
    )


def _build_host(
    settings: PdsSettings,
    pool: Pool,
    fetcher: Fetcher,
    identity: IdentityResolver,
    catalog: Catalog,
) -> PdsContext:
    vault = Vault(settings.secret)
    return PdsContext(
        settings=settings,
        pool=pool,
        catalog=catalog,
        fetcher=fetcher,
        identity=identity,
        directory=Directory(
            settings.plc_url, fetcher, bypass_key=settings.plc_bypass_key
        ),
        proxy=ServiceProxy(settings, fetcher, identity, utc_now),
        sessions=Sessions(settings),
        vault=vault,
        keys=KeyRing(vault),
        # Processes of one server have different clocks; the lock of a repo's head
        # keeps its revs rising.
        clock=TidClock(secrets.randbelow(_CLOCK_IDS), now_us),
        events=StoredEvents(pool),
        nodes=NodeCache(),
        limits=MethodLimits(settings),
        cursor_key=derive_key(settings.secret, "paging cursors"),
        hashing=HashQueue(),
        mailer=Mailer(settings.mail, utc_now),
        email_tokens=EmailTokens(settings.secret),
        app_passwords=AppPasswords(settings.secret),
        spooler=Spooler(),
        pending_handles=set(),
    )


class _Gate:
    """The login of a request, and the proxy for methods of other servers."""

    def __init__(self, host: PdsContext) -> None:
        self._host = host
        self._read_after_write = ReadAfterWrite(host)
        self._operator = OperatorLogin(host.settings)

    async def authenticate(self, request: Request, nsid: str) -> Auth | None:
        basic = request.headers.get("authorization", "").lower().startswith("basic ")
        if is_operator_method(nsid) or (basic and nsid in sync_methods.OWNER_METHODS):
            return self._operator.authenticate(request)
        login = await self._login(request, nsid)
        return None if login is None else auth_of(login)

    async def proxy(self, request: Request, nsid: str) -> Response | None:
        """Forward a method without a handler, for a logged-in, active account."""
        if not is_nsid(nsid) or request.method not in ("GET", "HEAD", "POST"):
            return None
        login = await self._login(request, nsid)
        if login is None:
            raise AuthMissingError("Authentication Required")
        identify(request.scope, login.account.did)
        if nsid in PROTECTED_METHODS:
            raise XrpcError(*_NO_SUCH_METHOD)
        if not may_forward(login.scope, nsid):
            raise InvalidTokenError("Bad token method")
        if nsid != CREATE_REPORT:
            require_writable(login.account)
        body = None
        if request.method == "POST":
            body = await read_body(request, MAX_REQUEST_BYTES)
        upstream = await self._host.run(self._open, login, nsid, request.headers, body)
        query = request.scope["query_string"].decode("ascii", "replace")
        answer = await upstream.send(nsid, query, body)
        if body is None:
            answer = await self._read_after_write.update(
                login.account, upstream, nsid, query, answer
            )
        return answer.response()

    async def _login(self, request: Request, nsid: str) -> Login | None:
        token = server_methods.bearer_token(request.headers.get("authorization"))
        if token is None:
            return None
        refresh = nsid in server_methods.REFRESH_METHODS
        login = await self._host.run(self._check, token, refresh)
        if not refresh:
            require_scope(login.scope, nsid)
        return login

    def _check(self, token: str, refresh: bool) -> Login:
        with self._host.reading() as conn:
            return self._host.sessions.authenticate(
                conn, token, utc_now(), refresh=refresh
            )

    def _open(
        self, login: Login, nsid: str, headers: Headers, body: bytes | None
    ) -> Upstream:
        """Return the service for a call, with the key of its tokens."""
        host = self._host
        account = login.account
        with host.reading() as conn:
            preferred = preferences.preferred_indexer(conn, account.id)
            target = choose_service(host.proxy, nsid, headers, body, preferred)
            key = host.keys.signing_key(conn, account)
        return Upstream(host.proxy, target, Did(account.did), key, headers)


@asynccontextmanager
async def _lifespan(
    host: PdsContext, stream: StreamServer, own_fetcher: Fetcher | None
) -> AsyncIterator[None]:
    settings = host.settings
    notice = CrawlNotice(
        settings.host,
        settings.indexer_urls,
        host.fetcher,
        host.events,
        interval=settings.crawl_notice_interval,
    )
    async with AsyncExitStack() as stack:
        if own_fetcher is not None:
            await stack.enter_async_context(own_fetcher)
        for work in (listen(host.pool, stream.wake), notice.run(), _keep_house(host)):
            stack.push_async_callback(_cancel, asyncio.create_task(work))
        yield


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _keep_house(host: PdsContext) -> None:
    while True:
        try:
            await host.run(_sweep, host)
        except (psycopg.OperationalError, PoolTimeout) as error:
            log.warning("housekeeping failed: %s", error)
        await asyncio.sleep(_HOUSEKEEPING_SECONDS)


def _sweep(host: PdsContext) -> None:
    now = utc_now()
    settings = host.settings
    with host.pool.connection() as conn:
        prune(conn, now - timedelta(seconds=settings.backfill_window))
    with host.pool.connection() as conn:
        sweep_blobs(conn, now - timedelta(seconds=settings.blob_grace))
    with host.pool.connection() as conn:
        host.sessions.prune(conn, now)
        prune_tokens(conn, now)


async def _greet(request: Request) -> Response:
    return PlainTextResponse(
        "This is an AT Protocol Personal Data Server, part of a Bigworld.\n"
        "Most methods are under /xrpc/; their description is at /docs.\n"
    )
