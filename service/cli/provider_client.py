"""Queries that commands send to the running provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from service.cli.table import print_rows
from service.operator_errors import ServiceError
from service.runtime.config import Config

_PATIENCE_S: Final = 120.0


def query_provider(config: Config, nsid: str, params: Mapping[str, Any]) -> Any:
    """Return the provider's reply. Raises ServiceError if it refuses or is away."""
    url = f"{config.provider_url}/xrpc/{nsid}"
    try:
        reply = httpx.get(url, params=params, timeout=_PATIENCE_S, trust_env=False)
        body = reply.json()
    except (httpx.TransportError, ValueError) as error:
        raise ServiceError(
            f"no provider answers at {config.provider_url}: start it (bigworld up), or "
            f"set its address (BIGWORLD_PORT_BASE, BIGWORLD_PUBLIC_URL); {error}"
        ) from error
    if not reply.is_success:
        name, message = body.get("error"), body.get("message")
        raise ServiceError(f"the provider refused the request: {name}: {message}")
    return body


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
