"""Routes of the streams, and their answer without an event log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from appview.app import AppView
from mirror.jetstream import PATH, Jetstream
from mirror.jetstream_events import EventMessages
from mirror.match_streams import match_route
from mirror.outgoing_events import OutgoingEvents, numbered_frame
from network.streams.stream_server import StreamServer
from network.xrpc.server import XrpcServer

SUBSCRIBE_REPOS: Final = "com.atproto.sync.subscribeRepos"

# The writers are other processes and send no signal; one poll is one index probe.
_POLL_S: Final = 0.1
_UNAVAILABLE: Final = {
    "error": "StreamUnavailable",
    "message": "this index keeps no event log (setting event_log)",
}


def add_subscription(server: XrpcServer, app: AppView) -> None:
    """Serve com.atproto.sync.subscribeRepos."""
    stream = StreamServer(OutgoingEvents(app, numbered_frame), poll=_POLL_S)

    async def subscribe(websocket: WebSocket, params: Mapping[str, Any]) -> None:
        await _if_kept(app, websocket, lambda: stream(websocket, params))

    server.route_subscription(SUBSCRIBE_REPOS, subscribe)


def stream_routes(app: AppView) -> Sequence[BaseRoute]:
    """Return the routes of Jetstream, and of matches as server-sent events."""
    jetstream = Jetstream(OutgoingEvents(app, EventMessages), poll=_POLL_S)

    async def subscribe(websocket: WebSocket) -> None:
        await _if_kept(app, websocket, lambda: jetstream(websocket))

    return [WebSocketRoute(PATH, subscribe), match_route(app)]


async def _if_kept(
    app: AppView, websocket: WebSocket, serve: Callable[[], Awaitable[None]]
) -> None:
    if app.keeps_events:
        await serve()
    else:
        answer = JSONResponse(_UNAVAILABLE, status_code=503)
        await websocket.send_denial_response(answer)
