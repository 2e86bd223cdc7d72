"""The XRPC server kit: one Starlette app driven by the lexicons (specs/xrpc).

A method is registered with its handler; verb, parameters, body and errors follow from
its lexicon. Every response below /xrpc/ is JSON, also after a crash.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Lifespan
from starlette.websockets import WebSocket

from network.errors import XrpcError
from network.server.admission import identify, working
from network.server.client_watch import run_while_connected, watch_client
from network.server.compression import CompressionMiddleware
from network.server.readiness import Readiness
from network.server.request_guard import RequestGuard
from network.xrpc.call import Auth, Call
from network.xrpc.cors import CorsMiddleware
from network.xrpc.docs_page import render_docs
from network.xrpc.error_reply import OUTAGES, error_response
from network.xrpc.openapi import describe_api
from network.xrpc.reply import ByteStream, Reply, build_response
from network.xrpc.request_input import (
    AuthMode,
    check_verb,
    decode_params,
    max_body_bytes,
    read_input,
    stream_input,
)
from protocol.lexicon import Catalog, Method

__all__ = ["Auth", "AuthMode", "Call", "Reply", "XrpcError", "XrpcServer"]

log = logging.getLogger(__name__)

_PARSING: Final = 2
_MAX_WAIT_S: Final = 5.0
THREADS: Final = 16
_SPACES: Final = "com.atproto.space."
_VERBS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"]

T = TypeVar("T")

Handler: TypeAlias = Callable[[Call], Any]
Authenticate: TypeAlias = Callable[[Request, str], Awaitable[Auth | None]]
Fallback: TypeAlias = Callable[[Request, str], Awaitable[Response | None]]
Observer: TypeAlias = Callable[[str, int, float], None]
Subscription: TypeAlias = Callable[[WebSocket, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Registered:
    method: Method
    handler: Handler
    is_async: bool
    auth: AuthMode
    max_bytes: int
    streamed: bool


class XrpcServer:
    """A registry of methods that builds the app.

    `authenticate(request, nsid)` returns the caller, None without one, or raises
    XrpcError. `fallback(request, nsid)` serves methods without a handler; it may return
    None. `ready` raises if a service that the server needs is away, for `/_ready`.
    `guard` gives each client its share of the server. `observe(nsid, status, seconds)`
    is called once a request, with nsid "unknown" for methods that are not registered.
    `check_output`
    validates every JSON response.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        authenticate: Authenticate | None = None,
        fallback: Fallback | None = None,
        guard: RequestGuard | None = None,
        observe: Observer | None = None,
        check_output: bool = False,
        title: str = "XRPC",
        version: str = "0.1.0",
        ready: Callable[[], None] | None = None,
        threads: int | anyio.CapacityLimiter = THREADS,
    ) -> None:
        self._catalog = catalog
        self._authenticate = authenticate
        self._fallback = fallback
        self._guard = guard
        self._observe = observe
        self._check_output = check_output
        self._title = title
        self._version = version
        self._ready = None if ready is None else Readiness(ready)
        if isinstance(threads, int):
            threads = anyio.CapacityLimiter(threads)
        self._threads = threads
        self._parsing = anyio.CapacityLimiter(_PARSING)
        self._methods: dict[str, _Registered] = {}
        self._subscriptions: dict[str, tuple[Method, Subscription]] = {}

    @property
    def methods(self) -> Sequence[str]:
        """Return the NSIDs with a handler, subscriptions included, sorted."""
        return sorted([*self._methods, *self._subscriptions])

    @property
    def threads(self) -> anyio.CapacityLimiter:
        """Return the threads that all blocking work of this server shares."""
        return self._threads

    async def run_handler(self, handler: Callable[[Call], T], call: Call) -> T:
        """Run a handler in a thread; set `call.gone` if its client disconnects."""
        async with watch_client(call.request, call.gone):
            result = await self._run_in_thread(handler, call)
        return result

    async def _run_in_thread(self, handler: Callable[[Call], T], call: Call) -> T:
        holder = object()
        try:
            async with asyncio.timeout(_MAX_WAIT_S):
                await self._threads.acquire_on_behalf_of(holder)
        except TimeoutError:
            raise XrpcError(
                "ServiceUnavailable", "the server is busy", 503, {"Retry-After": "1"}
            ) from None
        try:
            return await anyio.to_thread.run_sync(
                handler, call, limiter=anyio.CapacityLimiter(1)
            )
        finally:
            self._threads.release_on_behalf_of(holder)

    def add(
        self,
        nsid: str,
        handler: Handler,
        auth: AuthMode = "none",
        *,
        max_bytes: int | None = None,
        streamed: bool = False,
    ) -> None:
        """Register a query or procedure.

        `handler(call)` may be sync (then it runs in a thread) or async. It returns a
        JSON value, a Reply, or None for an empty response. `max_bytes` caps the body;
        the default follows from the lexicon. With `streamed` the input is an async
        iterator over the pieces of the body, for an async handler.
        """
        method = self._find_method(nsid)
        if method.kind == "subscription":
            raise ValueError(f"{nsid} is a subscription")
        if max_bytes is None:
            max_bytes = max_body_bytes(method, auth)
        self._methods[nsid] = _Registered(
            method=method,
            handler=handler,
            is_async=_is_async(handler),
            auth=auth,
            max_bytes=max_bytes,
            streamed=streamed,
        )

    def route_subscription(self, nsid: str, serve: Subscription) -> None:
        """Register a subscription: `serve(websocket, params)` accepts and runs it."""
        method = self._find_method(nsid)
        if method.kind != "subscription":
            raise ValueError(f"{nsid} is not a subscription")
        self._subscriptions[nsid] = (method, serve)

    def _find_method(self, nsid: str) -> Method:
        method = self._catalog.method(nsid)
        if method is None:
            raise ValueError(f"{nsid} has no lexicon in the catalog")
        return method

    def app(
        self,
        extra_routes: Sequence[BaseRoute] = (),
        *,
        lifespan: Lifespan[Starlette] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> Starlette:
        """Return the Starlette app; `extra_routes` come before the kit's own."""
        routes: list[BaseRoute] = [
            *extra_routes,
            Route("/xrpc/_health", self._serve_health),
            *([] if self._ready is None else [self._ready.route()]),
            *(
                WebSocketRoute(f"/xrpc/{nsid}", self._subscription_endpoint(nsid))
                for nsid in self._subscriptions
            ),
            Route("/xrpc/{nsid:path}", self._serve, methods=_VERBS),
            Route("/openapi.json", self._serve_openapi),
            Route("/docs", self._serve_docs),
        ]
        guards = [] if self._guard is None else [Middleware(self._guard.middleware)]
        app = Starlette(
            routes=routes,
            middleware=[
                Middleware(CorsMiddleware),
                Middleware(CompressionMiddleware),
                *guards,
                *middleware,
            ],
            exception_handlers=OUTAGES,
            lifespan=lifespan,
        )
        # It would redirect to the host that the request names.
        app.router.redirect_slashes = False
        return app

    async def _serve(self, request: Request) -> Response:
        started = time.perf_counter()
        nsid: str = request.path_params["nsid"]
        try:
            response = await self._answer(request, nsid)
        except Exception as error:
            # Every failure is an XRPC error without a stack trace.
            response = error_response(error, nsid)
        if request.method == "HEAD":
            if isinstance(response, ByteStream):
                await response.aclose()
            response = Response(
                status_code=response.status_code, headers=dict(response.headers)
            )
        if self._observe is not None:
            known = nsid if nsid in self._methods else "unknown"
            self._observe(known, response.status_code, time.perf_counter() - started)
        return response

    async def _answer(self, request: Request, nsid: str) -> Response:
        registered = self._methods.get(nsid)
        if registered is None:
            return await self._answer_unknown(request, nsid)
        method = registered.method
        check_verb(request, method.kind)
        auth = await self._check_auth(request, nsid, registered.auth)
        call = Call(
            nsid=nsid,
            params=decode_params(request.scope["query_string"], method),
            input=await self._read_input(request, registered),
            auth=auth,
            headers=request.headers,
            request=request,
        )
        async with working(request.scope):
            if registered.is_async:
                work = registered.handler(call)
                if method.kind == "query":
                    # Only a query is safe to cancel; a procedure runs to its end.
                    work = run_while_connected(request, call.gone, work)
                result = await work
            else:
                result = await self.run_handler(registered.handler, call)
            reply = result if isinstance(result, Reply) else Reply(result)
            return await build_response(
                reply, method, check=self._check_output, limiter=self._threads
            )

    async def _read_input(self, request: Request, registered: _Registered) -> Any:
        method, most = registered.method, registered.max_bytes
        if registered.streamed:
            return stream_input(request, method, most)
        return await read_input(request, method, most, self._parsing)

    async def _answer_unknown(self, request: Request, nsid: str) -> Response:
        if nsid in self._subscriptions:
            raise XrpcError(
                "InvalidRequest",
                f"{nsid} is a subscription: connect by WebSocket",
                426,
                {"Upgrade": "websocket", "Connection": "Upgrade"},
            )
        if nsid.startswith(_SPACES):
            # Never forwarded: its replies are for members of the space only.
            raise XrpcError(
                "MethodNotImplemented", "permissioned data (spaces) is not served", 501
            )
        if self._fallback is not None:
            response = await self._fallback(request, nsid)
            if response is not None:
                return response
        raise XrpcError("MethodNotImplemented", "Method Not Implemented", 501)

    async def _check_auth(
        self, request: Request, nsid: str, mode: AuthMode
    ) -> Auth | None:
        if mode == "none":
            return None
        auth = None
        if self._authenticate is not None:
            auth = await self._authenticate(request, nsid)
        if auth is not None:
            # All services of an account use its one share.
            identify(request.scope, auth.did.partition("#")[0])
        elif mode == "required":
            raise XrpcError("AuthMissing", "Authentication Required", 401)
        return auth

    def _subscription_endpoint(
        self, nsid: str
    ) -> Callable[[WebSocket], Awaitable[None]]:
        method, serve = self._subscriptions[nsid]

        async def endpoint(websocket: WebSocket) -> None:
            try:
                params = decode_params(websocket.scope["query_string"], method)
            except XrpcError as error:
                await websocket.send_denial_response(error_response(error, nsid))
                return
            await serve(websocket, params)

        return endpoint

    async def _serve_health(self, request: Request) -> Response:
        return JSONResponse({"version": self._version})

    async def _serve_openapi(self, request: Request) -> Response:
        return JSONResponse(self._describe())

    async def _serve_docs(self, request: Request) -> Response:
        return render_docs(self._describe())

    def _describe(self) -> dict[str, Any]:
        security = {nsid: item.auth for nsid, item in self._methods.items()}
        security |= dict.fromkeys(self._subscriptions, "none")
        return describe_api(
            self._catalog, security, title=self._title, version=self._version
        )


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - an object with async __call__
    )
