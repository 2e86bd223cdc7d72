"""com.atproto.sync.getHostStatus: one host that is crawled."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params, SessionRead
from appview.session import Session
from network.xrpc.server import XrpcError
from storage.hosts.upstream_hosts import find_upstream


def _find(session: Session, params: Params) -> dict[str, Any]:
    host = find_upstream(session.conn, params["hostname"].lower())
    if host is None:
        raise XrpcError("HostNotFound", "the host is not known here", 400)
    return host.to_json()


METHOD: Final = SessionRead(_find, auth="none")
