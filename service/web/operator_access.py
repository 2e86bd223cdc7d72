"""Password of the operator's routes, `/metrics` and `/status.json`."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

USER: Final = "admin"
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="bigworld", charset="UTF-8"'}


def for_operator(routes: Sequence[Route], password: str) -> Sequence[BaseRoute]:
    """Return the routes protected by the password: Basic (user `admin`) or Bearer."""
    for route in routes:
        route.app = _Locked(route.app, password)
    return routes


class _Locked:
    def __init__(self, app: ASGIApp, password: str) -> None:
        self._app = app
        self._password = password.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = _password_of(Headers(scope=scope).get("authorization", ""))
        if given is None or not secrets.compare_digest(given, self._password):
            refusal = PlainTextResponse("operators only", 401, _CHALLENGE)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _password_of(header: str) -> bytes | None:
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(value, validate=True).partition(b":")
    except binascii.Error:
        return None
    return password if colon and user == USER.encode() else None
