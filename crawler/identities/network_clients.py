"""The guarded HTTP client and the identity resolver of one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from crawler.identities.identity_cache import PostgresIdentityCache
from crawler.settings import CrawlSettings
from network.http.budget import TokenBucket
from network.http.client import DEFAULT_USER_AGENT, Fetcher
from network.http.policy import HostLimits, Policy
from network.identity.did_sources import DocumentMirror
from network.identity.resolver import DEFAULT_PLC_URL, IdentityLimits, IdentityResolver
from storage.hosts.host_budget import own_rates
from storage.postgres.pool import Pool


@dataclass(frozen=True, slots=True)
class NetworkClients:
    """The network clients of one event loop."""

    fetcher: Fetcher
    resolver: IdentityResolver


OpenClients = Callable[[], AbstractAsyncContextManager[NetworkClients]]
"""Opens the clients of one event loop."""


def clients_opener(
    pool: Pool,
    settings: CrawlSettings,
    *,
    plc_url: str = DEFAULT_PLC_URL,
    user_agent: str = DEFAULT_USER_AGENT,
    dev_pds: Sequence[str] = (),
    host_limits: HostLimits | None = None,
    open_mirror: Callable[[], DocumentMirror] | None = None,
) -> OpenClients:
    """Return an opener for the crawler's settings; identities are cached in `pool`.

    `dev_pds` are asked for `.test` handles, in development only. `open_mirror` opens a
    mirror of the directory. Rates that the operator set for single hosts hold from the
    next opening on.
    """
    policy = Policy(allow_loopback=settings.dev, limits=host_limits or HostLimits())
    # Shared by all clients of the process; a worker opens some for each task.
    directory = TokenBucket(settings.plc_rate, max(1, int(settings.plc_rate)))

    @asynccontextmanager
    async def open_clients() -> AsyncIterator[NetworkClients]:
        async with Fetcher(policy, user_agent=user_agent) as fetcher:
            resolver = IdentityResolver(
                fetcher,
                plc_url,
                PostgresIdentityCache(pool),
                dev=settings.dev,
                dev_pds=dev_pds,
                mirror=open_mirror() if open_mirror is not None else None,
                limits=IdentityLimits(
                    refresh_interval=settings.refresh_interval,
                    plc_rate=settings.plc_rate,
                    plc_bucket=directory,
                ),
            )
            for url, rate in await asyncio.to_thread(_load_rates, pool):
                limits = HostLimits(rate, max(1, int(2 * rate)), concurrency=1)
                fetcher.set_limits(url, limits)
            yield NetworkClients(fetcher, resolver)

    return open_clients


def _load_rates(pool: Pool) -> list[tuple[str, float]]:
    with pool.connection() as conn:
        return own_rates(conn)
