"""Identities on loopback: a PLC directory and web hosts."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from network.errors import UnreachableError
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.identity.identity_cache import CachedDocument, CachedHandle, IdentityCache
from network.identity.resolver import IdentityLimits, IdentityResolver
from network.server.listener import serving
from protocol.identity.keys import PrivateKey

ALICE = "did:plc:" + "a" * 24
BOB = "did:plc:" + "b" * 24
KEY = PrivateKey.from_bytes("k256", bytes(31) + b"\x01")
OTHER_KEY = PrivateKey.from_bytes("p256", bytes(31) + b"\x02")

DEV = Policy(
    allow_loopback=True, limits=HostLimits(rate=1e6, burst=10_000, concurrency=100)
)


def document(
    did: str,
    handle: str = "alice.test",
    key: PrivateKey = KEY,
    pds: str = "https://pds.net",
) -> dict[str, Any]:
    return {
        "id": did,
        "alsoKnownAs": [f"at://{handle}"],
        "verificationMethod": [
            {
                "id": f"{did}#atproto",
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": key.public.multikey,
            }
        ],
        "service": [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": pds,
            }
        ],
    }


class Txt:
    """A table of DNS TXT values."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_dot_", "."): v for name, v in names.items()}
        self.asked: list[str] = []
        self.broken = False

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        if self.broken:
            raise UnreachableError("no DNS here")
        return self.names.get(name, [])


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class DictCache:
    """An IdentityCache in two dicts."""

    def __init__(self) -> None:
        self.documents: dict[str, CachedDocument] = {}
        self.handles: dict[str, CachedHandle] = {}

    async def load_document(self, did: str) -> CachedDocument | None:
        return self.documents.get(did)

    async def save_document(self, did: str, cached: CachedDocument) -> None:
        self.documents[did] = cached

    async def load_handle(self, handle: str) -> CachedHandle | None:
        return self.handles.get(handle)

    async def save_handle(self, handle: str, cached: CachedHandle) -> None:
        self.handles[handle] = cached


class UsedTokens(set[tuple[str, str]]):
    """A JtiStore that remembers every token."""

    async def use(self, iss: str, jti: str, exp: int) -> bool:
        if (iss, jti) in self:
            return False
        self.add((iss, jti))
        return True


class World:
    """A directory and hosts; `answers` maps a path to JSON or a Response."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.handles: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.txt = Txt()
        self.clock = Clock()
        self.url = ""

    @property
    def port(self) -> str:
        return self.url.rsplit(":", 1)[1]

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked[path] += 1
        if path == "/.well-known/atproto-did":
            did = self.handles.get(request.headers["host"].split(":")[0])
            if did == "500":
                return PlainTextResponse("in trouble", 500)
            return PlainTextResponse(did or "no", 200 if did else 404)
        answer = self.answers.get(path)
        if isinstance(answer, Response):
            return answer
        if answer is None:
            return JSONResponse({"message": "not registered"}, 404)
        return JSONResponse(answer)

    @contextlib.asynccontextmanager
    async def resolver(
        self,
        cache: IdentityCache | None = None,
        limits: IdentityLimits | None = None,
        policy: Policy = DEV,
        dev: bool = True,
    ) -> AsyncIterator[IdentityResolver]:
        app = Starlette(routes=[Route("/{path:path}", self._answer)])
        async with serving(app) as url, Fetcher(policy) as fetcher:
            self.url = url
            yield IdentityResolver(
                fetcher,
                url,
                cache,
                self.txt,
                dev,
                dev_pds=[url],
                limits=limits,
                now=self.clock,
            )
