"""Queries that commands send to the running provider."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from network.errors import NetworkError, XrpcError
from network.xrpc.client import XrpcClient
from service.cli.table import print_rows
from service.demo_network import own_fetcher
from service.operator_errors import ServiceError
from service.runtime.config import Config


def query_provider(config: Config, nsid: str, params: Mapping[str, Any]) -> Any:
    """Return the provider's reply. Raises ServiceError if it refuses or is away."""

    async def query() -> Any:
        async with own_fetcher(config) as fetcher:
            return await XrpcClient(fetcher, config.provider_url).query(nsid, params)

    try:
        return asyncio.run(query())
    except XrpcError as error:
        raise ServiceError(f"the provider refused the request: {error}") from error
    except NetworkError as error:
        raise ServiceError(
            f"no provider answers at {config.provider_url}: start it (bigworld up), or "
            f"set its address (BIGWORLD_PORT_BASE, BIGWORLD_PUBLIC_URL); {error}"
        ) from error


def print_posts(posts: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print post views as a table or as JSON lines."""
    rows = [
        {
            **post,
            "when": str(post["record"].get("createdAt", ""))[:16],
            "who": post["author"]["handle"],
            "text": post["record"].get("text", ""),
        }
        for post in posts
    ]
    print_rows(rows, ("when", "who", "text", "uri"), as_json=as_json)
