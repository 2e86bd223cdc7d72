"""requestCrawl: who names hosts, and which of them count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.hosts.crawl_requests import CrawlRequests
from crawler.settings import CrawlSettings
from network.errors import XrpcError
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.server.listener import serving
from storage.postgres.pool import open_pool

SETTINGS = CrawlSettings(dev=True, new_hosts_per_day=2)


async def describe(request: Request) -> Response:
    return JSONResponse({"did": "did:web:x", "availableUserDomains": []})


PDS = Starlette(routes=[Route("/xrpc/com.atproto.server.describeServer", describe)])


@asynccontextmanager
async def requests(
    url: str, settings: CrawlSettings = SETTINGS
) -> AsyncIterator[CrawlRequests]:
    limits = HostLimits(rate=1e6, burst=1_000, concurrency=100)
    policy = Policy(allow_loopback=True, limits=limits)
    with open_pool(url, max=2) as pool:
        async with Fetcher(policy) as fetcher:
            yield CrawlRequests(pool, fetcher, settings)


async def refusal(request: CrawlRequests, hostname: str, client: str) -> XrpcError:
    with pytest.raises(XrpcError) as caught:
        await request(hostname, client)
    return caught.value


def test_crawl_requests_are_bounded_per_client(index_db: str) -> None:
    async def work() -> None:
        async with requests(index_db) as request, serving(PDS) as pds:
            errors = [
                await refusal(request, f"localhost:{n}", "a") for n in range(1, 31)
            ]
            assert [error.status for error in errors] == [400] * 20 + [429] * 10
            assert errors[0].name == "HostUnreachable"
            assert "localhost:1 does not answer" in errors[0].message
            assert int(errors[-1].headers["Retry-After"]) > 0
            assert "RateLimit-Reset" in errors[-1].headers
            # Others are not kept out, and a known host costs nothing.
            await request(pds, "b")
            for _ in range(30):
                await request(pds, "a")

    asyncio.run(work())


def test_new_hosts_of_a_day_are_bounded(index_db: str) -> None:
    async def work() -> None:
        async with (
            requests(index_db) as request,
            serving(PDS) as one,
            serving(PDS) as two,
            serving(PDS) as three,
        ):
            await request(one, "a")
            await request(two, "b")
            error = await refusal(request, three, "c")
            assert (error.name, error.status) == ("RateLimitExceeded", 429)
            await request(one, "c")
            assert (await refusal(request, "no host", "c")).status == 400

    asyncio.run(work())
