"""Name resolution and sockets behind the address policy.

The addresses that were checked are the addresses that are dialled: aiohttp asks
this resolver at connect time, and the socket factory checks each address again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from aiohttp import AddrInfoType, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from network.errors import ForbiddenAddressError, UnreachableError
from network.http.policy import Policy
from network.http.urls import is_loopback_name

_MAX_ADDRESSES: Final = 4
_DNS_CACHE_SECONDS: Final = 30
# A name that was given up is asked for by the system for up to four times as long
# still: so many threads for each of the 64 domains that are asked at once.
_DNS_THREADS: Final = 256


class AddressLookup(Protocol):
    """Host name to textual IP addresses; OSError if there are none."""

    async def __call__(self, host: str) -> Sequence[str]: ...


class ForbiddenSocketError(OSError):
    """The second check: an address reached the socket that the first refuses."""


class SystemLookup:
    """getaddrinfo in threads of its own: slow DNS servers block only each other."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="dns")

    async def __call__(self, host: str) -> Sequence[str]:
        infos = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM),
        )
        return list(dict.fromkeys(str(info[4][0]) for info in infos))

    def close(self) -> None:
        """Let go of the threads; a look-up under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedResolver(AbstractResolver):
    """Keeps only the addresses that the policy lets us dial."""

    def __init__(self, policy: Policy, lookup: AddressLookup) -> None:
        self._policy = policy
        self._lookup = lookup

    async def _addresses(self, host: str) -> Sequence[str]:
        if self._policy.allow_loopback and is_loopback_name(host):
            return ["127.0.0.1"]  # names below localhost are not DNS's to answer
        try:
            async with asyncio.timeout(self._policy.connect_timeout):
                return await self._lookup(host)
        except TimeoutError:
            raise UnreachableError(f"DNS was too slow for {host}") from None
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"DNS has no address of {host}") from error

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host` that may be dialled, at most four.

        Raises ForbiddenAddressError if every address is refused.
        """
        addresses = await self._addresses(host)
        allowed = [text for text in addresses if self._policy.may_dial(text)]
        if addresses and not allowed:
            raise ForbiddenAddressError(f"{host} resolves to no public address")
        if not allowed:
            raise UnreachableError(f"DNS has no address of {host}")
        return [
            ResolveResult(
                hostname=host,
                host=text,
                port=port,
                family=socket.AF_INET6 if ":" in text else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for text in allowed[:_MAX_ADDRESSES]
        ]

    async def close(self) -> None:
        """Nothing is held here; the look-up belongs to the fetcher."""


def open_connector(
    policy: Policy,
    lookup: AddressLookup,
    tls: ssl.SSLContext | None,
    max_connections: int,
) -> TCPConnector:
    """A connection pool that can only reach what the policy allows.

    `max_connections` 0 is no limit.
    """

    def open_socket(info: AddrInfoType) -> socket.socket:
        family, kind, proto, _, address = info
        if not policy.may_dial(str(address[0])):
            raise ForbiddenSocketError(f"{address[0]} may not be dialled")
        return socket.socket(family=family, type=kind, proto=proto)

    return TCPConnector(
        resolver=GuardedResolver(policy, lookup),
        socket_factory=open_socket,
        ssl=tls if tls is not None else True,
        ttl_dns_cache=_DNS_CACHE_SECONDS,
        limit=max_connections,
    )
