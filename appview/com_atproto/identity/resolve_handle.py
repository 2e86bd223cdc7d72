"""com.atproto.identity.resolveHandle: the index first, then the network."""

from __future__ import annotations

from functools import partial
from typing import Final

from appview.app import AppView
from appview.own_feeds import own_handle
from appview.pipeline import Handler
from network.server.admission import resting
from network.xrpc.server import AuthMode, Call, XrpcError, XrpcServer
from protocol.syntax import normalize_handle
from storage.records.addresses import find_handles


class _ResolveHandle:
    """A cached reply of the network does not serve for an account that has another
    handle in the index."""

    auth: AuthMode = "none"

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        def find_in_index(call: Call) -> str | None:
            handle = normalize_handle(call.params["handle"])
            with app.pool.connection() as conn:
                return find_handles(conn, [handle]).get(handle)

        async def resolve(call: Call) -> str | None:
            handle = normalize_handle(call.params["handle"])
            if handle == own_handle(app.service_did):
                return app.service_did
            did = await server.run_handler(find_in_index, call)
            if did is not None:
                return did
            async with resting(call.request.scope):
                found = await app.resolve_handle(handle)
            if found is None:
                return None
            if await server.run_handler(partial(_has_handle, app, found), call):
                async with resting(call.request.scope):
                    found = await app.resolve_handle(handle, refresh=True)
            return found

        async def answer(call: Call) -> dict[str, str]:
            did = await resolve(call)
            if did is None:
                raise XrpcError("InvalidRequest", "Unable to resolve handle", 400)
            return {"did": did}

        return answer


def _has_handle(app: AppView, did: str, _: Call) -> bool:
    """Return True if the index has checked the handle of an account."""
    with app.pool.connection() as conn:
        row = conn.execute(
            "SELECT FROM actor WHERE did = %s AND handle_checked_at IS NOT NULL", (did,)
        ).fetchone()
    return row is not None


METHOD: Final = _ResolveHandle()
