"""`/_ready`: the state of the services that this server depends on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from network.server.outage import AWAY, outage_reason, recently_full

PATH: Final = "/_ready"
_PATIENCE_S: Final = 1.0
_KEEP_S: Final = 1.0
_RETRY_S: Final = 5


class Readiness:
    """A cached readiness check; `check` raises if a dependency is away.

    One check runs at a time, for at most a second, and its result is kept for a second.
    A check that hangs is not started again until it ends.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._threads = anyio.CapacityLimiter(1)
        self._running: asyncio.Task[str | None] | None = None
        self._reason: str | None = None
        self._checked = -_KEEP_S

    def route(self) -> Route:
        return Route(PATH, self.serve)

    async def serve(self, request: Request) -> Response:
        """Respond with 200, or 503 with the reason."""
        reason = await self.reason()
        if reason is None:
            return JSONResponse({"ready": True})
        return JSONResponse(
            {"error": "NotReady", "message": reason},
            503,
            {"Retry-After": str(_RETRY_S)},
        )

    async def reason(self) -> str | None:
        """Return the reason why the server is not ready; None if it is."""
        if time.monotonic() - self._checked < _KEEP_S:
            return self._reason
        if self._running is None:
            self._running = asyncio.create_task(self._ask())
        done, _ = await asyncio.wait({self._running}, timeout=_PATIENCE_S)
        if not done:
            return AWAY
        return self._reason

    async def _ask(self) -> None:
        try:
            await anyio.to_thread.run_sync(self._check, limiter=self._threads)
            self._reason = recently_full()
        except Exception as error:
            self._reason = outage_reason(error) or AWAY
        self._checked = time.monotonic()
        self._running = None
