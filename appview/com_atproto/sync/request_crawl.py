"""com.atproto.sync.requestCrawl: admit a host that a client names."""

from __future__ import annotations

from typing import Final

from appview.app import AppView
from appview.pipeline import Handler
from network.server.admission import client_key, resting
from network.xrpc.server import AuthMode, Call, XrpcServer


class _RequestCrawl:
    auth: AuthMode = "none"

    def handler(self, app: AppView, server: XrpcServer) -> Handler:
        async def answer(call: Call) -> None:
            client = client_key(call.request.scope)
            async with resting(call.request.scope):
                await app.request_crawl(call.input["hostname"], client)

        return answer


METHOD: Final = _RequestCrawl()
