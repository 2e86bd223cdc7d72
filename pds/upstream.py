"""One service, called for one account: the choice of it, and its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

import orjson

from network.errors import XrpcError
from pds.exceptions import InvalidRequestError
from pds.proxy import (
    PROXY_HEADER,
    ProxyAnswer,
    ProxyRequest,
    ServiceProxy,
    ServiceRef,
    parse_service_ref,
)
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did, Nsid, is_did

GET_FEED: Final = "app.bsky.feed.getFeed"
_GET_RECORD: Final = "com.atproto.repo.getRecord"
_SKELETON: Final = Nsid("app.bsky.feed.getFeedSkeleton")
_PUSH: Final = frozenset(
    f"app.bsky.notification.{name}" for name in ("registerPush", "unregisterPush")
)
_REPORT: Final = "com.atproto.moderation.createReport"
_OZONE: Final = "tools.ozone."
NOTIFICATIONS: Final = "bsky_notif"
_OK: Final = 200


def choose_service(
    proxy: ServiceProxy,
    nsid: str,
    headers: Mapping[str, str],
    body: bytes | None,
    preferred: str | None,
) -> ServiceRef:
    """Return the service for a call of an account with a `preferred` indexer.

    A push registration goes to the service that its body names. Otherwise the
    client's header decides. Reports and moderation have a default of their own. Raises
    InvalidRequestError.
    """
    if nsid in _PUSH:
        return _push_service(proxy, body)
    header = headers.get(PROXY_HEADER)
    if header is None and (nsid == _REPORT or nsid.startswith(_OZONE)):
        preferred = proxy.moderation or preferred
    return proxy.choose(header, preferred)


def _push_service(proxy: ServiceProxy, body: bytes | None) -> ServiceRef:
    try:
        given = orjson.loads(body or b"")
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError("the body is not JSON") from error
    did = given.get("serviceDid") if isinstance(given, dict) else None
    if not isinstance(did, str) or not is_did(did):
        raise InvalidRequestError("serviceDid is not a DID")
    if proxy.default is not None and proxy.default.did == did:
        return proxy.default
    return parse_service_ref(f"{did}#{NOTIFICATIONS}")


class Upstream:
    """A service with the key that signs the account's tokens."""

    def __init__(
        self,
        proxy: ServiceProxy,
        target: ServiceRef,
        did: Did,
        key: PrivateKey,
        headers: Mapping[str, str],
    ) -> None:
        self._proxy = proxy
        self._target = target
        self._did = did
        self._key = key
        self._headers = headers

    async def send(
        self, nsid: str, query: str, body: bytes | None = None
    ) -> ProxyAnswer:
        """Forward a call. Raises as `ServiceProxy.forward` does."""
        lxm, audience = Nsid(nsid), None
        if nsid == GET_FEED:
            lxm, audience = _SKELETON, await self._find_feed_service(query)
        token = self._proxy.service_token(
            self._target, lxm, self._did, self._key, audience=audience
        )
        return await self._forward(nsid, query, body, token)

    async def read_json(self, nsid: str, params: Mapping[str, Any]) -> Any:
        """Return the JSON of a query, None if it fails."""
        try:
            answer = await self.send(nsid, urlencode(params, doseq=True))
            return orjson.loads(answer.body) if answer.status == _OK else None
        except (XrpcError, orjson.JSONDecodeError):
            return None

    async def _find_feed_service(self, query: str) -> Did:
        """Return the service of a feed: the indexer hands its token on to it."""
        feed = parse_qs(query).get("feed", [""])[0]
        parts = feed.removeprefix("at://").split("/")
        if len(parts) != 3:
            raise InvalidRequestError("feed is not the AT-URI of a record")
        record = dict(zip(("repo", "collection", "rkey"), parts, strict=True))
        answer = await self._forward(_GET_RECORD, urlencode(record), None, None)
        try:
            did = orjson.loads(answer.body)["value"]["did"]
        except (ValueError, LookupError, TypeError):
            did = None
        if not isinstance(did, str) or not is_did(did):
            raise XrpcError("UnknownFeed", "could not resolve feed did", 400)
        return Did(did)

    async def _forward(
        self, nsid: str, query: str, body: bytes | None, token: str | None
    ) -> ProxyAnswer:
        request = ProxyRequest(nsid, query, self._headers, body, self._did)
        return await self._proxy.forward(self._target, request, token)
