"""How often one client may ask us: a token bucket for each address."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from starlette.requests import Request

from network.budget import TokenBucket
from network.errors import XrpcError
from network.identity_cache import BoundedCache

MAX_CLIENTS: Final = 50_000
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
_MAX_HOPS: Final = 16

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class RequestGuard:
    """The `guard` of an XrpcServer.

    `rate` requests a second with bursts of `burst` for each client; XrpcError 429
    with Retry-After beyond. `X-Forwarded-For` is believed only from the networks in
    `trusted_proxies`, read from the right. A client on loopback that no proxy
    speaks for is this machine, and is not counted.
    """

    def __init__(
        self,
        rate: float = 10.0,
        burst: int = 600,
        *,
        trusted_proxies: Sequence[str] = _LOOPBACK,
        max_clients: int = MAX_CLIENTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._trusted = [ipaddress.ip_network(text) for text in trusted_proxies]
        self._buckets: BoundedCache[TokenBucket] = BoundedCache(max_clients)
        self._clock = clock

    def __call__(self, request: Request, nsid: str) -> None:
        client = self.client_of(request)
        if client is None:
            return
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, self._clock)
            self._buckets.put(client, bucket)
        if not bucket.take():
            wait = str(max(1, math.ceil(bucket.wait_needed())))
            raise XrpcError(
                "RateLimitExceeded", "Too many requests", 429, {"Retry-After": wait}
            )

    def client_of(self, request: Request) -> str | None:
        """The key of the client: an IPv4 address or an IPv6 /64; None for ourselves."""
        peer = _parse(request.client.host) if request.client else None
        if peer is None:
            return None  # a UNIX socket, or a test
        client = self._origin(peer, request.headers.getlist("x-forwarded-for"))
        if client is None:
            return None
        if isinstance(client, ipaddress.IPv6Address):
            # A household has 2**64 addresses: it counts as one client.
            return str(ipaddress.ip_network((client, 64), strict=False))
        return str(client)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _origin(self, peer: Address, forwarded: Sequence[str]) -> Address | None:
        hops = [text for value in forwarded for text in value.split(",")]
        origin = peer
        for text in reversed(hops[-_MAX_HOPS:]):
            if not self._is_trusted(origin):
                return origin
            before = _parse(text.strip())
            if before is None:
                return origin  # nonsense from here on: the last good one answers
            origin = before
        return None if origin.is_loopback and not hops else origin


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
