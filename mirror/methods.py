"""The XRPC methods of the mirror, put together."""

from __future__ import annotations

from functools import partial

from appview.app import AppView
from appview.server import add_session_methods
from mirror import repo_methods, sync_methods
from mirror.stream_routes import add_subscription
from network.xrpc.server import XrpcServer


def add_methods(server: XrpcServer, app: AppView) -> None:
    """Register every method of the mirror on `server`."""
    add_session_methods(server, app, repo_methods.METHODS)
    for nsid, handler in sync_methods.METHODS.items():
        server.add(nsid, partial(handler, app), "none")
    add_subscription(server, app)
