"""A provider that a PDS forwards to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pds_world import World, free_port
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from network.server.listener import serving_in_thread

SERVICES = {
    "bigworld": "BigworldProvider",
    "bsky_notif": "BskyNotificationService",
    "atproto_labeler": "AtprotoLabeler",
}


class Provider:
    """A service that records its requests and returns `answer`.

    `answers` has those of single methods, or functions of the query.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.did = f"did:web:localhost%3A{self.port}"
        self.requests: list[tuple[Request, bytes]] = []
        self.answer: Response | None = None
        self.answers: dict[str, Response | Callable[[Any], Response]] = {}
        self.endpoint = f"http://localhost:{self.port}"

    @property
    def last(self) -> tuple[Request, bytes]:
        return self.requests[-1]

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/did.json", self._document),
                Route("/xrpc/{nsid}", self._serve, methods=["GET", "POST"]),
            ]
        )

    async def _document(self, request: Request) -> Response:
        return JSONResponse(
            {
                "id": self.did,
                "service": [
                    {"id": f"#{name}", "type": kind, "serviceEndpoint": self.endpoint}
                    for name, kind in SERVICES.items()
                ],
            }
        )

    async def _serve(self, request: Request) -> Response:
        self.requests.append((request, await request.body()))
        own = self.answers.get(request.path_params["nsid"])
        if callable(own) and not isinstance(own, Response):
            return own(request.query_params)
        return own or self.answer or JSONResponse({"from": self.name})


def start_provider(world: World, name: str) -> Provider:
    provider = Provider(name)
    world.stack.enter_context(serving_in_thread(provider.app(), port=provider.port))
    return provider
