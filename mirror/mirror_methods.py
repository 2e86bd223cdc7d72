"""The registration of the mirror's XRPC methods."""

from __future__ import annotations

from functools import partial

from appview.app import AppView
from appview.pipeline import SessionRead
from appview.server import add_method
from appview.views.blob_url import GET_BLOB
from mirror import blob_methods, block_methods, repo_methods, sync_methods
from mirror.match_streams import add_match_subscription
from mirror.stream_routes import add_subscription
from network.xrpc.server import XrpcServer

LIST_BLOBS = "com.atproto.sync.listBlobs"


def add_methods(server: XrpcServer, app: AppView) -> None:
    """Register every method of the mirror on `server`."""
    for nsid, read in repo_methods.METHODS.items():
        add_method(server, app, nsid, SessionRead(read))
    add_method(server, app, LIST_BLOBS, SessionRead(blob_methods.list_blobs))
    for handlers in (sync_methods.METHODS, block_methods.METHODS):
        for nsid, handler in handlers.items():
            server.add(nsid, partial(handler, app), "none")
    server.add(GET_BLOB, blob_methods.serve_blobs(app, server), "none")
    add_subscription(server, app)
    add_match_subscription(server, app)
