"""The status page and its JSON."""

from __future__ import annotations

from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appview.app import AppView
from network.server.admission import working
from service.web.status import BENIGN, COUNTS, Status, read_status


class StatusPage:
    """The state of the index: hosts, lag, drops."""

    def __init__(self, app: AppView, threads: CapacityLimiter) -> None:
        self._app = app
        self._threads = threads

    def page(self, _: Request) -> dict[str, Any]:
        """Return the values of the template."""
        return {
            "title": "Status",
            "status": _read(self._app),
            "benign": BENIGN,
            "engine": self._app.engine.stats(),
        }

    async def counts_json(self, request: Request) -> Response:
        """Return the counters, which the status page refreshes."""
        async with working(request.scope):
            status = await run_sync(_read, self._app, limiter=self._threads)
        return JSONResponse({name: getattr(status, name) for name in COUNTS})


def status_route(app: AppView, threads: CapacityLimiter) -> Route:
    """Return the route of `/status.json`: the status page as JSON."""

    async def status_json(request: Request) -> Response:
        async with working(request.scope):
            status = await run_sync(_read, app, limiter=threads)
        return JSONResponse(status.as_json())

    return Route("/status.json", status_json)


def _read(app: AppView) -> Status:
    with app.pool.connection() as conn:
        return read_status(conn, app.default_labelers)
