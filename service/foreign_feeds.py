"""Feeds that other services compute: their skeletons, fetched with every guard on."""

from __future__ import annotations

from typing import Any

from appview.app import ForeignSkeleton
from network.client import Fetcher
from network.errors import IdentityError, NetworkError
from network.identity import IdentityResolver
from network.xrpc_client import XrpcClient
from network.xrpc_server import XrpcError
from protocol.syntax import is_at_uri

GET_FEED_SKELETON = "app.bsky.feed.getFeedSkeleton"
SERVICE = "#bsky_fg"
SERVICE_TYPE = "BskyFeedGenerator"
_MAX_BYTES = 256_000
_TIMEOUT = 10.0


class ForeignFeeds:
    """`await fetch(service_did, feed=…, …)`: a page of somebody else's feed."""

    def __init__(self, resolver: IdentityResolver, fetcher: Fetcher) -> None:
        self._resolver = resolver
        self._fetcher = fetcher

    async def __call__(
        self,
        service_did: str,
        *,
        feed: str,
        limit: int,
        cursor: str | None,
        authorization: str | None,
    ) -> ForeignSkeleton:
        """Raises `XrpcError`: what the generator said, or UpstreamFailure."""
        try:
            client = XrpcClient(self._fetcher, await self._find_endpoint(service_did))
            answer = await client.query(
                GET_FEED_SKELETON,
                {"feed": feed, "limit": limit, "cursor": cursor},
                headers={"authorization": authorization} if authorization else None,
                max_bytes=_MAX_BYTES,
                timeout=_TIMEOUT,
            )
        except (NetworkError, IdentityError) as error:
            raise XrpcError(
                "UpstreamFailure", f"feed generator {service_did}: {error}", 502
            ) from error
        return read_skeleton(answer, cursor)

    async def _find_endpoint(self, did: str) -> str:
        document = await self._resolver.resolve_did(did)
        service = document.service(SERVICE)
        if service is None or service.type != SERVICE_TYPE:
            raise XrpcError(
                "UnknownFeed", f"{did} declares no {SERVICE_TYPE} service", 400
            )
        return service.endpoint


def read_skeleton(answer: Any, asked: str | None) -> ForeignSkeleton:
    """A skeleton page from untrusted JSON; entries that are none are left out.

    A cursor that only repeats the one asked with ends the feed, as an empty page does.
    """
    feed = answer.get("feed") if isinstance(answer, dict) else None
    if not isinstance(feed, list):
        raise XrpcError("InvalidFeedResponse", "the feed generator sent no feed", 502)
    items: list[tuple[str, str | None]] = []
    for entry in feed[:100]:
        post = entry.get("post") if isinstance(entry, dict) else None
        if not isinstance(post, str) or not is_at_uri(post):
            continue
        reason = entry.get("reason")
        repost = reason.get("repost") if isinstance(reason, dict) else None
        items.append((post, repost if isinstance(repost, str) else None))
    cursor = answer.get("cursor")
    goes_on = isinstance(cursor, str) and items and cursor != asked
    return ForeignSkeleton(items, cursor if goes_on else None)
