"""A provider that a PDS forwards to."""

from __future__ import annotations

from pds_world import World, free_port
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from network.server.listener import serving_in_thread


class Provider:
    """A service that records its requests and returns `answer`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.did = f"did:web:localhost%3A{self.port}"
        self.requests: list[tuple[Request, bytes]] = []
        self.answer: Response | None = None
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
                    {
                        "id": "#bigworld",
                        "type": "BigworldProvider",
                        "serviceEndpoint": self.endpoint,
                    }
                ],
            }
        )

    async def _serve(self, request: Request) -> Response:
        self.requests.append((request, await request.body()))
        return self.answer or JSONResponse({"from": self.name})


def start_provider(world: World, name: str) -> Provider:
    provider = Provider(name)
    world.stack.enter_context(serving_in_thread(provider.app(), port=provider.port))
    return provider
