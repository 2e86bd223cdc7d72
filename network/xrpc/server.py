"""The XRPC server kit: one Starlette app driven by the lexicons (specs/xrpc).

A method is registered with its handler; verb, parameters, body and errors follow from
its lexicon. Everything below /xrpc/ answers JSON, crashes included.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

import anyio
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Lifespan
from starlette.websockets import WebSocket

from network.errors import XrpcError
from network.server.client_watch import run_while_connected, watch_client
from network.server.compression import CompressionMiddleware
from network.server.readiness import Readiness
from network.server.request_guard import RequestGuard, identify, working
from network.xrpc.cors import CorsMiddleware
from network.xrpc.docs_page import render_docs
from network.xrpc.error_reply import OUTAGES, ErrorTypes, error_response
from network.xrpc.openapi import describe_api
from network.xrpc.reply import ByteStream, Reply, build_response
from network.xrpc.request_body import read_body, stream_body
from protocol.data import json_form
from protocol.errors import InvalidRecordError, ProtocolError
from protocol.lexicon import Catalog, Method

__all__ = ["Auth", "Call", "Reply", "XrpcError", "XrpcServer"]

log = logging.getLogger(__name__)

JSON: Final = "application/json"
MAX_JSON_BYTES: Final = 2_097_152  # guides/data-validation
# Where a lexicon calls for less; it leaves room for fields that it does not name.
MIN_JSON_BYTES: Final = 8_192
# Where anybody may ask, whatever the lexicon allows.
MAX_ANONYMOUS_JSON_BYTES: Final = 65_536
# Larger JSON is parsed in a thread, so that others are answered meanwhile.
_PARSED_AT_ONCE: Final = 65_536
_PARSING: Final = 2
_MAX_WAIT_S: Final = 5.0
MAX_BLOB_BYTES: Final = 100_000_000
MAX_QUERY_CHARS: Final = 32_768
MAX_PARAMETERS: Final = 1_000
_SHOWN_NAME: Final = 80
THREADS: Final = 16
_VERBS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"]

T = TypeVar("T")

AuthMode: TypeAlias = Literal["none", "optional", "required"]


@dataclass(frozen=True, slots=True)
class Auth:
    """Who is asking. `kind` names how it was shown, e.g. "service", "session"."""

    did: str
    kind: str
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One checked request.

    `params` are typed by the lexicon with defaults filled in. `input` is the JSON
    value of a JSON method, the bytes of any other, an async iterator of bytes if the
    method was added with `stream=True`, and None without a body.
    """

    nsid: str
    params: dict[str, Any]
    input: Any
    auth: Auth | None
    headers: Headers
    request: Request
    gone: Event = field(default_factory=Event)
    """Set when the client disconnects while a thread works on the answer."""

    def is_client_gone(self) -> bool:
        """Return True if nobody waits for the answer any more."""
        return self.gone.is_set()

    @property
    def viewer(self) -> Auth:
        """The asker of a method that requires one."""
        assert self.auth is not None, "the method does not require auth"
        return self.auth


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
    stream: bool


class XrpcServer:
    """Registers methods, then builds the app.

    `authenticate(request, nsid)` returns who asks, None for nobody, or raises
    XrpcError. `fallback(request, nsid)` answers methods without a handler, and
    `intercept` is asked before any handler; both may return None to decline.
    `ready` raises if something that the server needs is away, for `/_ready`.
    `guard` gives each client its share of everything that the app serves.
    `observe(nsid, status, seconds)` is called once a request, with nsid "unknown" for
    methods that are not registered. `error_types` maps exceptions of handlers to
    (error name, status). `check_output` validates every JSON answer.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        authenticate: Authenticate | None = None,
        fallback: Fallback | None = None,
        intercept: Fallback | None = None,
        guard: RequestGuard | None = None,
        observe: Observer | None = None,
        error_types: ErrorTypes | None = None,
        check_output: bool = False,
        title: str = "XRPC",
        version: str = "0.1.0",
        health: Callable[[], Mapping[str, Any]] | None = None,
        ready: Callable[[], None] | None = None,
        threads: int | anyio.CapacityLimiter = THREADS,
    ) -> None:
        self._catalog = catalog
        self._authenticate = authenticate
        self._fallback = fallback
        self._intercept = intercept
        self._guard = guard
        self._observe = observe
        self._error_types = error_types or {}
        self._check_output = check_output
        self._title = title
        self._version = version
        self._health = health
        self._ready = None if ready is None else Readiness(ready)
        if isinstance(threads, int):
            threads = anyio.CapacityLimiter(threads)
        self._threads = threads
        self._parsing = anyio.CapacityLimiter(_PARSING)
        self._methods: dict[str, _Registered] = {}
        self._subscriptions: dict[str, tuple[Method, Subscription]] = {}

    @property
    def methods(self) -> Sequence[str]:
        """The NSIDs with a handler, subscriptions included, sorted."""
        return sorted([*self._methods, *self._subscriptions])

    @property
    def threads(self) -> anyio.CapacityLimiter:
        """The threads that all blocking work of this server shares."""
        return self._threads

    async def run_handler(self, handler: Callable[[Call], T], call: Call) -> T:
        """Run a blocking handler in a thread; `call.gone` is set if its client leaves.

        A body that is handed over as a stream is not watched: its handler reads it.
        """
        if isinstance(call.input, AsyncIterator):
            return await self._run_in_thread(handler, call)
        async with watch_client(call.request, call.gone):
            result = await self._run_in_thread(handler, call)
        return result

    async def _run_in_thread(self, handler: Callable[[Call], T], call: Call) -> T:
        # A thread that does not come free soon is not waited for.
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
        stream: bool = False,
    ) -> None:
        """Serve a query or procedure.

        `handler(call)` may be sync (then it runs in a thread) or async, and returns a
        JSON value, a Reply, or None for an empty answer. `max_bytes` caps the body, by
        default at what the lexicon calls for; `stream=True` hands a body that is not
        JSON over as it arrives.
        """
        method = self._find_method(nsid)
        if method.kind == "subscription":
            raise ValueError(f"{nsid} is a subscription")
        if max_bytes is None:
            max_bytes = _max_body(method, auth)
        self._methods[nsid] = _Registered(
            method=method,
            handler=handler,
            is_async=_is_async(handler),
            auth=auth,
            max_bytes=max_bytes,
            stream=stream,
        )

    def route_subscription(self, nsid: str, serve: Subscription) -> None:
        """Serve a subscription: `serve(websocket, params)` accepts and runs it.

        `network.streams.stream_server.StreamServer` is made to be given here.
        """
        method = self._find_method(nsid)
        if method.kind != "subscription":
            raise ValueError(f"{nsid} is no subscription")
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
        """The Starlette app; `extra_routes` come before the kit's own."""
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
        # It would redirect to whatever host the request names.
        app.router.redirect_slashes = False
        return app

    # One request, step by step.

    async def _serve(self, request: Request) -> Response:
        started = time.perf_counter()
        nsid: str = request.path_params["nsid"]
        try:
            response = await self._answer(request, nsid)
        except Exception as error:
            # The last line of defence: whatever happened, the caller gets an XRPC
            # error and no stack trace.
            response = error_response(error, self._error_types, nsid)
        if request.method == "HEAD":
            if isinstance(response, ByteStream):
                await response.aclose()
            response = Response(
                status_code=response.status_code,
                headers=dict(response.headers),
            )
        if self._observe is not None:
            known = nsid if nsid in self._methods else "unknown"
            self._observe(known, response.status_code, time.perf_counter() - started)
        return response

    async def _answer(self, request: Request, nsid: str) -> Response:
        if self._intercept is not None:
            response = await self._intercept(request, nsid)
            if response is not None:
                return response
        registered = self._methods.get(nsid)
        if registered is None:
            return await self._answer_unknown(request, nsid)
        method = registered.method
        _check_verb(request, method.kind)
        auth = await self._check_auth(request, nsid, registered.auth)
        call = Call(
            nsid=nsid,
            params=_read_params(request, method),
            input=await _read_input(request, registered, self._parsing),
            auth=auth,
            headers=request.headers,
            request=request,
        )
        async with working(request.scope):
            if registered.is_async:
                work = registered.handler(call)
                if method.kind == "query":
                    # Nothing is lost by stopping it; what writes goes on to its end.
                    work = run_while_connected(request, call.gone, work)
                result = await work
            else:
                result = await self.run_handler(registered.handler, call)
            reply = result if isinstance(result, Reply) else Reply(result)
            return await build_response(
                reply, method, check=self._check_output, limiter=self._threads
            )

    async def _answer_unknown(self, request: Request, nsid: str) -> Response:
        if nsid in self._subscriptions:
            raise XrpcError(
                "InvalidRequest",
                f"{nsid} is a subscription: connect by WebSocket",
                426,
                {"Upgrade": "websocket", "Connection": "Upgrade"},
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
            # All services that an account names have its one share.
            identify(request.scope, auth.did.partition("#")[0])
        elif mode == "required":
            raise XrpcError("AuthMissing", "Authentication Required", 401)
        return auth

    def _subscription_endpoint(
        self, nsid: str
    ) -> Callable[[WebSocket], Awaitable[None]]:
        method, serve = self._subscriptions[nsid]

        async def endpoint(websocket: WebSocket) -> None:
            query = websocket.scope["query_string"]
            try:
                params = _decode_params(query, method)
            except XrpcError as error:
                await websocket.send_denial_response(
                    error_response(error, self._error_types, nsid)
                )
                return
            await serve(websocket, params)

        return endpoint

    async def _serve_health(self, request: Request) -> Response:
        body: dict[str, Any] = {"version": self._version}
        if self._health is not None:
            try:
                body |= self._health()
            except Exception as error:
                return error_response(error, self._error_types, "_health")
        return JSONResponse(body)

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


def _max_body(method: Method, auth: AuthMode) -> int:
    body = method.input
    if body is None:
        return MIN_JSON_BYTES
    if body.encoding != JSON:
        return MAX_BLOB_BYTES
    most = MAX_JSON_BYTES if auth == "required" else MAX_ANONYMOUS_JSON_BYTES
    return (
        most if body.largest is None else min(max(body.largest, MIN_JSON_BYTES), most)
    )


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - an object with async __call__
    )


def _check_verb(request: Request, kind: str) -> None:
    allowed = ("GET", "HEAD") if kind == "query" else ("POST",)
    if request.method not in allowed:
        raise XrpcError(
            "InvalidRequest",
            f"Incorrect HTTP method ({request.method}) expected {allowed[0]}",
            405,
            {"Allow": ", ".join(allowed)},
        )


def _read_params(request: Request, method: Method) -> dict[str, Any]:
    return _decode_params(request.scope["query_string"], method)


def _decode_params(query: bytes, method: Method) -> dict[str, Any]:
    try:
        return method.decode_params(_split_query(query))
    except ProtocolError as error:
        raise XrpcError("InvalidRequest", f"parameters: {error}") from error


def _split_query(query: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a query string, unescaped.

    Raises InvalidRecordError with the name of the parameter that is at fault.
    """
    pieces = [piece.partition(b"=")[::2] for piece in query.split(b"&")]
    if len(query) > MAX_QUERY_CHARS:
        name, _ = max(pieces, key=lambda piece: len(piece[1]))
        raise InvalidRecordError(_shown(name), "is too long")
    if len(pieces) > MAX_PARAMETERS:
        raise InvalidRecordError("", f"are more than {MAX_PARAMETERS}")
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        name = next((name for name, text in pieces if not _is_text(text)), b"")
        raise InvalidRecordError(_shown(name), "is not UTF-8") from None


def _is_text(value: bytes) -> bool:
    try:
        unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return False
    return value.isascii()


def _shown(name: bytes) -> str:
    return unquote(name[:_SHOWN_NAME].decode("ascii", "replace"))


async def _read_input(
    request: Request, registered: _Registered, parsing: anyio.CapacityLimiter
) -> Any:
    method = registered.method
    if method.kind == "query":
        return None
    content_type = request.headers.get("content-type", "").partition(";")[0]
    content_type = content_type.strip().lower()
    expected = method.input.encoding if method.input else None
    if expected is None:
        if await read_body(request, registered.max_bytes):
            raise XrpcError("InvalidRequest", "a body was sent where none belongs")
        return None
    if expected != JSON:
        _check_encoding(content_type, expected)
        if registered.stream:
            return stream_body(request, registered.max_bytes)
        return await read_body(request, registered.max_bytes)
    _check_encoding(content_type, expected)
    body = await read_body(request, registered.max_bytes)
    if len(body) <= _PARSED_AT_ONCE:
        return _parse(body, registered)
    async with working(request.scope):
        return await anyio.to_thread.run_sync(_parse, body, registered, limiter=parsing)


def _parse(body: bytes, registered: _Registered) -> Any:
    try:
        value = json_form.loads(body, max_bytes=registered.max_bytes, whole_as_int=True)
        registered.method.check_input(value)
    except ProtocolError as error:
        raise XrpcError("InvalidRequest", f"body: {error}") from error
    return value


def _check_encoding(content_type: str, expected: str) -> None:
    if not content_type:
        raise XrpcError("InvalidRequest", f"Content-Type is missing, not {expected}")
    prefix, star, _ = expected.partition("*")
    if content_type != expected and not (star and content_type.startswith(prefix)):
        if expected == "*/*":
            return
        raise XrpcError(
            "InvalidRequest",
            f"Wrong request encoding (Content-Type): {content_type[:80]}",
        )
