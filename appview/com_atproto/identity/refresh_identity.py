"""com.atproto.identity.refreshIdentity: resolve an account anew, here and in the
index."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from appview.app import AppView
from appview.identity_errors import naming_errors
from appview.pipeline import Handler
from crawler.scope.admission import IDENTITY_JOB
from network.server.admission import resting
from network.server.rate_limit import RateLimit
from network.xrpc.server import AuthMode, Call, XrpcServer
from storage.jobs import put_jobs
from storage.records.addresses import find_actors

_REFRESHES: Final = 2
_WINDOW_S: Final = 60.0


class _RefreshIdentity:
    """The limit is of one identifier for all callers: its host is asked each time."""

    auth: AuthMode = "required"

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        shared = app.shared_buckets
        buckets = shared and shared.named("identity refresh")
        limit = RateLimit(_REFRESHES, _WINDOW_S, buckets=buckets)

        async def answer(call: Call) -> dict[str, Any]:
            identifier: str = call.input["identifier"]
            limit.take(identifier.lower())
            async with resting(call.request.scope):
                with naming_errors():
                    found = await app.network.find_identity(identifier, refresh=True)
            if found.did != identifier:
                limit.take(found.did)
            await server.run_handler(partial(_queue, app, found.did), call)
            return found.to_json()

        return answer


def _queue(app: AppView, did: str, _: Call) -> None:
    """Queue the identity of an account that the index has."""
    with app.pool.connection() as conn:
        if find_actors(conn, [did]):
            put_jobs(conn, IDENTITY_JOB, [did], doubt=True)


METHOD: Final = _RefreshIdentity()
