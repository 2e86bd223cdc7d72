"""com.atproto.repo.describeRepo: an account's identity and collections."""

from __future__ import annotations

from typing import Any, Final

from appview.app import AppView
from appview.hydration.state import State
from appview.pipeline import Handler
from appview.refusals import refuse_repo
from appview.session import context_of
from network.server.admission import resting
from network.xrpc.server import AuthMode, Call, XrpcServer
from protocol.syntax import INVALID_HANDLE
from storage.repos.repo_listing import list_collections


class _DescribeRepo:
    auth: AuthMode = "optional"

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        def find(call: Call) -> dict[str, Any]:
            repo = call.params["repo"]
            with context_of(app, call).session() as session:
                state = State(session)
                actor = session.find_actor(repo)
                did = refuse_repo(state, actor, repo)
                assert actor is not None
                handle = state.actors[actor].handle
                return {
                    "did": did,
                    "handle": handle or INVALID_HANDLE,
                    "handleIsCorrect": handle is not None,
                    "collections": list_collections(session.conn, actor),
                }

        async def answer(call: Call) -> dict[str, Any]:
            found = await server.run_handler(find, call)
            async with resting(call.request.scope):
                document = await app.network.find_document(found["did"])
            return found | {"didDoc": document}

        return answer


METHOD: Final = _DescribeRepo()
