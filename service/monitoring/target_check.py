"""First check of the configured directory, hosts and relays."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from service.runtime.config import Config

if TYPE_CHECKING:
    from network.http.client import Fetcher

_PATIENCE_S: Final = 10.0
_MAX_CHECKED: Final = 20
_PDS: Final = "PDS"
_RELAY: Final = "relay"
_LIST_HOSTS: Final = "com.atproto.sync.listHosts"


def find_unreachable(config: Config) -> list[str]:
    """Return a line for each target that does not answer as expected.

    Checks the directory and up to twenty hosts and relays. The crawl retries them.
    """
    return asyncio.run(_ask_all(config))


async def _ask_all(config: Config) -> list[str]:
    from service.outgoing import make_fetcher

    async with make_fetcher(config) as fetcher:
        lines = await asyncio.gather(
            _ask_directory(fetcher, config),
            *(_ask_host(fetcher, url, _PDS) for url in config.hosts[:_MAX_CHECKED]),
            *(_ask_host(fetcher, url, _RELAY) for url in config.relays[:_MAX_CHECKED]),
        )
    return [line for line in lines if line is not None]


async def _ask_directory(fetcher: Fetcher, config: Config) -> str | None:
    from network.errors import NetworkError

    url = config.directory_url
    try:
        async with asyncio.timeout(_PATIENCE_S):
            fetched = await fetcher.get(f"{url}/_health", max_bytes=65_536)
        if fetched.status < 500:
            return None
        detail = f"status {fetched.status}"
    except (NetworkError, TimeoutError) as error:
        detail = str(error) or "no reply in time"
    return (
        f"the PLC directory {url} does not answer ({detail}): no account can be"
        " verified until it does; see BIGWORLD_PLC_URL"
    )


async def _ask_host(fetcher: Fetcher, url: str, kind: str) -> str | None:
    from crawler.hosts.discovery import probe
    from network.errors import NetworkError, XrpcError
    from network.xrpc.client import XrpcClient

    try:
        async with asyncio.timeout(_PATIENCE_S):
            if kind == _RELAY:
                await XrpcClient(fetcher, url).query(_LIST_HOSTS, {"limit": 1})
            else:
                await probe(fetcher, url)
    except (NetworkError, XrpcError, TimeoutError) as error:
        detail = str(error) or "no reply in time"
        return (
            f"{url} does not answer as a {kind} ({detail}): it is retried; check"
            " the address, and see `bigworld host`"
        )
    return None
