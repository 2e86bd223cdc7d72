"""What long-running verbs share: a stop signal, a fetcher, an identity resolver.

The client is imported where it is made: the directory needs none and starts sooner.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import structlog
from starlette.types import ASGIApp

from network.serve import serving
from service.config import Config

if TYPE_CHECKING:
    from network.client import Fetcher
    from network.did_sources import DocumentMirror
    from network.identity import IdentityResolver
    from network.identity_cache import IdentityCache

log = structlog.get_logger(__name__)

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DEV_WARNING = (
    "DEVELOPMENT NETWORK: loopback and plain http hosts are allowed, anything may be "
    "claimed by anyone; never expose this to the internet"
)


def run_async(main: Coroutine[Any, Any, None], config: Config) -> None:
    """Run a verb's coroutine; says loudly when the development switch is on."""
    if config.dev_network:
        log.warning(_DEV_WARNING)
    asyncio.run(main)


def stop_event() -> asyncio.Event:
    """An event of the running loop that SIGINT and SIGTERM set."""
    event = asyncio.Event()
    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


async def serve_until_stopped(app: ASGIApp, config: Config, port: int) -> None:
    """Serve `app` on the configured address until a stop signal."""
    stop = stop_event()
    async with serving(app, config.bind, port) as url:
        log.info("serving", url=url)
        await stop.wait()
    log.info("stopped", port=port)


def make_fetcher(config: Config, **policy: Any) -> Fetcher:
    """The guarded client of this process, with the configured budget a host."""
    from network.client import Fetcher
    from network.policy import HostLimits, Policy

    limits = HostLimits(
        rate=config.host_requests_per_s,
        burst=max(1, int(2 * config.host_requests_per_s)),
        concurrency=config.host_concurrency,
    )
    return Fetcher(
        Policy(allow_loopback=config.dev_network, limits=limits, **policy),
        user_agent=config.user_agent,
    )


def make_resolver(
    config: Config,
    fetcher: Fetcher,
    cache: IdentityCache | None = None,
    mirror: DocumentMirror | None = None,
) -> IdentityResolver:
    """Identity resolution against the configured directory."""
    from network.identity import IdentityResolver

    return IdentityResolver(
        fetcher,
        config.directory_url,
        cache,
        dev=config.dev_network,
        dev_pds=config.hosts if config.dev_network else (),
        mirror=mirror,
    )
