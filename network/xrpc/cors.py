"""Cross-origin rules of a public API: any web page may call it, without credentials."""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALLOWED_HEADERS: Final = (
    "atproto-accept-labelers",
    "atproto-content-labelers",
    "atproto-proxy",
    "authorization",
    "content-type",
    "dpop",
    "if-none-match",
    "range",
    "x-atproto-bsky-topics",
    "x-bsky-topics",
)
# The headers that scripts may read, beside those that CORS itself lists.
EXPOSED_HEADERS: Final = (
    "accept-ranges",
    "atproto-content-labelers",
    "atproto-repo-rev",
    "content-disposition",
    "content-encoding",
    "content-range",
    "dpop-nonce",
    "etag",
    "ratelimit-limit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
    "retry-after",
    "www-authenticate",
)
_HEADER_NAMES: Final = re.compile(
    r"[A-Za-z0-9_-]{1,64}( ?, ?[A-Za-z0-9_-]{1,64}){0,31}"
)
_METHODS: Final = "GET, HEAD, POST, OPTIONS"


class CorsMiddleware:
    """A middleware for preflights that opens every response to all origins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await self._preflight(Headers(scope=scope))(scope, receive, send)
            return

        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = "*"
                headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED_HEADERS)
            await send(message)

        await self._app(scope, receive, send_open)

    @staticmethod
    def _preflight(headers: Headers) -> Response:
        wanted = headers.get("access-control-request-headers", "")
        known = _HEADER_NAMES.fullmatch(wanted) is not None
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": (
                    wanted if known else ", ".join(ALLOWED_HEADERS)
                ),
                "Access-Control-Max-Age": "86400",
                "Vary": "Access-Control-Request-Headers",
                "Allow": _METHODS,
            },
        )
