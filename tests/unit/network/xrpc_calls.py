"""An XRPC server on loopback, and calls to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.http.responses import Fetched
from network.server.listener import serving
from network.xrpc.server import AuthMode, Handler, XrpcServer
from protocol.lexicon import Catalog

SEARCH = "app.bsky.feed.searchPosts"
POSTS = "app.bsky.feed.getPosts"
RESOLVE = "com.atproto.identity.resolveHandle"
CREATE = "com.atproto.repo.createRecord"
CREATE_ACCOUNT = "com.atproto.server.createAccount"
REQUEST_CRAWL = "com.atproto.sync.requestCrawl"
UPLOAD = "com.atproto.repo.uploadBlob"
REFRESH = "com.atproto.server.refreshSession"
DELETE = "com.atproto.server.deleteSession"
GET_REPO = "com.atproto.sync.getRepo"
CAR = "application/vnd.ipld.car"
SUBSCRIBE = "com.atproto.sync.subscribeRepos"

CATALOG = Catalog.load()
DID = "did:plc:" + "a" * 24
DEV = Policy(
    allow_loopback=True, limits=HostLimits(rate=1e6, burst=10_000, concurrency=100)
)


class Caller:
    def __init__(self, url: str, fetcher: Fetcher) -> None:
        self.url = url
        self._fetcher = fetcher

    async def get(self, path: str, **headers: str) -> Fetched:
        return await self._fetcher.get(self.url + path, headers=_names(headers))

    async def post(
        self, path: str, body: Any = b"", kind: str = "application/json", **more: str
    ) -> Fetched:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": kind} if kind else {"Content-Type": ""}
        return await self._fetcher.post(
            self.url + path, body=data, headers={**headers, **_names(more)}
        )

    async def send(self, method: str, path: str, **headers: str) -> tuple[int, Any]:
        async with self._fetcher.session.request(
            method, self.url + path, headers=_names(headers)
        ) as response:
            return response.status, response.headers


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@asynccontextmanager
async def calling(server: XrpcServer, **options: Any) -> AsyncIterator[Caller]:
    async with serving(server.app(**options)) as url, Fetcher(DEV) as fetcher:
        yield Caller(url, fetcher)


def ask(
    nsid: str,
    handler: Handler,
    *paths: str,
    auth: AuthMode = "none",
    headers: dict[str, str] | None = None,
    **options: Any,
) -> list[Fetched]:
    async def work() -> list[Fetched]:
        server = XrpcServer(CATALOG, **options)
        server.add(nsid, handler, auth)
        async with calling(server) as caller:
            return [await caller.get(path, **(headers or {})) for path in paths]

    return asyncio.run(work())


def error_of(fetched: Fetched) -> tuple[int, str]:
    body = json.loads(fetched.body)
    assert set(body) == {"error", "message"}
    assert fetched.headers["content-type"].startswith("application/json")
    assert fetched.headers["access-control-allow-origin"] == "*"
    return fetched.status, body["error"]
