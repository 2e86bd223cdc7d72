"""Name resolution and sockets behind the address policy.

The address that is checked is the address that is dialled: aiohttp calls this resolver
at connect time, and the socket factory checks each address again.
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
# The system goes on with an abandoned lookup for up to four times our timeout: four
# threads for each of 64 lookups at once.
_DNS_THREADS: Final = 256


class AddressLookup(Protocol):
    """A lookup of the IP addresses of a host name; OSError if there are none."""

    async def __call__(self, host: str) -> Sequence[str]: ...


class ForbiddenSocketError(OSError):
    """A socket to an address that the policy refuses: the second check."""


class SystemLookup:
    """A getaddrinfo in its own threads: slow DNS servers block only each other."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="dns")

    async def __call__(self, host: str) -> Sequence[str]:
        infos = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM),
        )
        return list(dict.fromkeys(str(info[4][0]) for info in infos))

    def close(self) -> None:
        """Release the threads; a lookup that is running ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedResolver(AbstractResolver):
    """A resolver that returns only addresses that the policy allows."""

    def __init__(self, policy: Policy, lookup: AddressLookup) -> None:
        self._policy = policy
        self._lookup = lookup

    async def _addresses(self, host: str) -> Sequence[str]:
        if self._policy.allow_loopback and is_loopback_name(host):
            return ["127.0.0.1"]  # no DNS lookup for names below localhost
        try:
            async with asyncio.timeout(self._policy.connect_timeout):
                return await self._lookup(host)
        except TimeoutError:
            raise UnreachableError(f"DNS was too slow for {host}") from None
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"DNS has no address for {host}") from error

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return at most four addresses of `host` that may be dialled.

        Raises ForbiddenAddressError if every address is refused.
        """
        addresses = await self._addresses(host)
        allowed = [text for text in addresses if self._policy.may_dial(text)]
        if addresses and not allowed:
            raise ForbiddenAddressError(f"{host} resolves to no public address")
        if not allowed:
            raise UnreachableError(f"DNS has no address for {host}")
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
        """Do nothing: the fetcher closes the lookup."""


def open_connector(
    policy: Policy,
    lookup: AddressLookup,
    tls: ssl.SSLContext | None,
    max_connections: int,
) -> TCPConnector:
    """Return a connection pool that reaches only allowed addresses.

    `max_connections` 0 means no limit.
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
