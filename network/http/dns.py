"""DNS TXT records from the resolvers of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from network.errors import TimedOutError, UnreachableError

TXT_TIMEOUT: Final = 3.0
_MAX_VALUES: Final = 64


class TxtLookup(Protocol):
    """A lookup of the TXT values of a name; empty if there are none."""

    async def __call__(self, name: str) -> Sequence[str]: ...


class DnsTxtLookup:
    """A TXT lookup by the name servers of this machine."""

    def __init__(self) -> None:
        self._resolver: dns.asyncresolver.Resolver | None = None

    def _open(self) -> dns.asyncresolver.Resolver:
        # Opened on first use: a machine without name servers can still run the rest.
        if self._resolver is None:
            try:
                resolver = dns.asyncresolver.Resolver()
            except dns.exception.DNSException as error:
                raise UnreachableError(f"no name server: {error}") from error
            resolver.lifetime = TXT_TIMEOUT
            self._resolver = resolver
        return self._resolver

    async def __call__(self, name: str) -> Sequence[str]:
        try:
            # Absolute: no search domains of this machine.
            absolute = dns.name.from_text(name, origin=dns.name.root)
            answer = await self._open().resolve(absolute, "TXT", search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.Timeout as error:
            raise TimedOutError(f"DNS was too slow for {name}") from error
        except (dns.exception.DNSException, OSError) as error:
            raise UnreachableError(f"DNS failed for {name}: {error}") from error
        return [
            b"".join(record.strings).decode("ascii", "replace")
            for record in list(answer)[:_MAX_VALUES]
        ]
