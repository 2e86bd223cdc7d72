"""Client of feed services: skeletons of foreign feeds, behind the guards of HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from appview.app import ForeignItem, ForeignSkeleton
from network.errors import BadResponseError, IdentityError, NetworkError
from network.http.client import Fetcher
from network.identity.resolver import IdentityResolver
from network.xrpc.client import XrpcClient
from network.xrpc.server import XrpcError
from protocol.errors import InvalidSyntaxError
from protocol.limits import MAX_PARAMETER_CHARS
from protocol.syntax import is_at_uri

GET_FEED_SKELETON: Final = "app.bsky.feed.getFeedSkeleton"
SERVICE: Final = "#bsky_fg"
SERVICE_TYPE: Final = "BskyFeedGenerator"
REASON_REPOST: Final = "app.bsky.feed.defs#skeletonReasonRepost"
REASON_PIN: Final = "app.bsky.feed.defs#skeletonReasonPin"
_MAX_BYTES: Final = 256_000
_TIMEOUT: Final = 10.0
# The limits of the lexicon.
_MAX_CONTEXT_BYTES: Final = 2_000
_MAX_REQ_ID_BYTES: Final = 100


class ForeignFeeds:
    """Client: `await fetch(service_did, feed=…, …)` returns a page of a foreign
    feed."""

    def __init__(
        self, resolver: IdentityResolver, fetcher: Fetcher, *, timeout: float = _TIMEOUT
    ) -> None:
        self._resolver = resolver
        self._fetcher = fetcher
        self._timeout = timeout

    async def __call__(
        self,
        service_did: str,
        *,
        feed: str,
        limit: int,
        cursor: str | None,
        headers: Mapping[str, str],
    ) -> ForeignSkeleton:
        """Return a page of at most `limit` items; `headers` are sent along.

        Raises XrpcError: the service's own, InvalidRequest if its DID document declares
        no feed service, InvalidFeedResponse, or UpstreamFailure.
        """
        try:
            # Covers the lookup, the wait for our budget, and the reply.
            async with asyncio.timeout(self._timeout):
                endpoint = await self._find_endpoint(service_did)
                answer = await XrpcClient(self._fetcher, endpoint).query(
                    GET_FEED_SKELETON,
                    {"feed": feed, "limit": limit, "cursor": cursor},
                    headers=headers,
                    max_bytes=_MAX_BYTES,
                    timeout=self._timeout,
                )
        except XrpcError as error:
            # Its faults are not ours, and its Retry-After is not for our clients.
            status = 502 if error.status >= 500 else error.status
            raise XrpcError(error.name, error.message, status) from error
        except BadResponseError as error:
            if error.status == 200:
                raise _invalid_response() from error
            raise _unavailable() from error
        except (NetworkError, TimeoutError) as error:
            raise _unavailable() from error
        return read_skeleton(answer, cursor, limit)

    async def _find_endpoint(self, did: str) -> str:
        try:
            document = await self._resolver.resolve_did(did)
        except (IdentityError, InvalidSyntaxError) as error:
            raise XrpcError(
                "InvalidRequest", f"could not resolve identity: {did}", 400
            ) from error
        service = document.service(SERVICE)
        if service is None or service.type != SERVICE_TYPE:
            raise XrpcError(
                "InvalidRequest",
                "invalid feed generator service details in did document: "
                f"{did} declares no {SERVICE_TYPE}",
                400,
            )
        return service.endpoint


def read_skeleton(answer: Any, asked: str | None, limit: int) -> ForeignSkeleton:
    """Read a skeleton page from untrusted JSON, without malformed entries.

    Repeated posts count once, and only the first `limit` entries. An empty page ends
    the feed, and so does a cursor equal to the one sent.
    """
    feed = answer.get("feed") if isinstance(answer, dict) else None
    if not isinstance(feed, list):
        raise _invalid_response()
    items: dict[str, ForeignItem] = {}
    for entry in feed[:limit]:
        item = _read_item(entry)
        if item is not None:
            items.setdefault(item.post, item)
    cursor = answer.get("cursor")
    goes_on = (
        isinstance(cursor, str)
        and 0 < len(cursor) <= MAX_PARAMETER_CHARS
        and bool(feed)
        and cursor != asked
    )
    return ForeignSkeleton(
        [*items.values()],
        cursor if goes_on else None,
        _short_text(answer.get("reqId"), _MAX_REQ_ID_BYTES),
    )


def _read_item(entry: Any) -> ForeignItem | None:
    post = entry.get("post") if isinstance(entry, dict) else None
    if not isinstance(post, str) or not is_at_uri(post):
        return None
    reason = entry.get("reason")
    kind = reason.get("$type") if isinstance(reason, dict) else None
    repost = reason.get("repost") if kind == REASON_REPOST else None
    return ForeignItem(
        post,
        repost if isinstance(repost, str) else None,
        pinned=kind == REASON_PIN,
        context=_short_text(entry.get("feedContext"), _MAX_CONTEXT_BYTES),
    )


def _short_text(value: Any, most: int) -> str | None:
    if isinstance(value, str) and len(value.encode()) <= most:
        return value
    return None


def _invalid_response() -> XrpcError:
    return XrpcError("InvalidFeedResponse", "feed provided an invalid response", 502)


def _unavailable() -> XrpcError:
    return XrpcError("UpstreamFailure", "feed unavailable", 502)
