"""com.atproto.sync.requestCrawl: a host that asks to be crawled is probed first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from crawler.hosts.discovery import (
    HostRefusedError,
    find_requested,
    probe,
    request_crawl,
)
from crawler.hosts.host_name import HostAddress
from crawler.settings import CrawlSettings
from network.errors import NetworkError, UnreachableError, XrpcError
from network.http.client import Fetcher
from network.server.rate_limit import RateLimit
from network.server.shared_buckets import SharedBuckets
from storage.postgres.pool import Pool

T = TypeVar("T")

# New names that one client may have probed; one address may host many PDSes.
_NAMES: Final = 20
_WINDOW_S: Final = 3_600.0
_PROBES: Final = 4
_PROBE_S: Final = 10.0
_TOO_MANY: Final = 429
_RETRY_S: Final = 3_600


class CrawlRequests:
    """Admits hosts within `settings`; probes new ones through `fetcher`.

    Only a host that answers as a PDS counts towards the new hosts of a day. No
    connection is held during the probe.
    """

    def __init__(
        self,
        pool: Pool,
        fetcher: Fetcher,
        settings: CrawlSettings,
        *,
        threads: anyio.CapacityLimiter | None = None,
        shared: SharedBuckets | None = None,
    ) -> None:
        self._pool = pool
        self._fetcher = fetcher
        self._settings = settings
        self._threads = threads
        buckets = shared and shared.named("crawl request")
        self._share = RateLimit(_NAMES, _WINDOW_S, buckets=buckets)
        self._probing = asyncio.Semaphore(_PROBES)

    async def __call__(self, hostname: str, client: str) -> None:
        """Note that a host wants to be crawled. Raises XrpcError.

        `client` is the key of the caller: each has its share of new names.
        """
        try:
            address = await self._run(find_requested, hostname)
            if address is not None:
                self._share.take(client)
                await self._ask(address)
            await self._run(request_crawl, hostname)
        except HostRefusedError as error:
            if error.name == "RateLimitExceeded":
                headers = {"Retry-After": str(_RETRY_S)}
                raise XrpcError(error.name, str(error), _TOO_MANY, headers) from error
            raise XrpcError(error.name, str(error), 400) from error

    async def _ask(self, address: HostAddress) -> None:
        try:
            async with asyncio.timeout(_PROBE_S), self._probing:
                await probe(self._fetcher, address.url)
        except (TimeoutError, NetworkError, XrpcError) as error:
            reason = "no connection"
            if not isinstance(error, UnreachableError):
                reason = str(error) or "no answer in time"
            raise HostRefusedError(
                "HostUnreachable",
                f"{address.name} does not answer as a PDS: {reason[:200]}",
            ) from error

    async def _run(self, ask: Callable[..., T], hostname: str) -> T:
        def work() -> T:
            with self._pool.connection() as conn:
                return ask(conn, hostname, self._settings)

        return await anyio.to_thread.run_sync(work, limiter=self._threads)
