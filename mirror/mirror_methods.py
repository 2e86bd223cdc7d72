"""The registration of the mirror's XRPC methods."""

from __future__ import annotations

from functools import partial

from appview.app import AppView
from appview.pipeline import SessionRead
from appview.server import add_method
from mirror import repo_methods, sync_methods
from mirror.match_streams import add_match_subscription
from mirror.stream_routes import add_subscription
from network.xrpc.server import XrpcServer


def add_methods(server: XrpcServer, app: AppView) -> None:
    """Register every method of the mirror on `server`."""
    for nsid, read in repo_methods.METHODS.items():
        add_method(server, app, nsid, SessionRead(read))
    for nsid, handler in sync_methods.METHODS.items():
        server.add(nsid, partial(handler, app), "none")
    add_subscription(server, app)
    add_match_subscription(server, app)
