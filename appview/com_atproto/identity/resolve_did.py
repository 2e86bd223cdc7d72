"""com.atproto.identity.resolveDid: the whole document of a DID."""

from __future__ import annotations

from typing import Any, Final

from appview.app import AppView
from appview.identity_errors import naming_errors
from appview.pipeline import Handler
from network.server.admission import resting
from network.xrpc.server import AuthMode, Call, XrpcServer


class _ResolveDid:
    auth: AuthMode = "none"

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        async def answer(call: Call) -> dict[str, Any]:
            async with resting(call.request.scope):
                with naming_errors():
                    document = await app.network.find_document(call.params["did"])
            return {"didDoc": document}

        return answer


METHOD: Final = _ResolveDid()
