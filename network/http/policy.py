"""The limits of every call that leaves this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from network.http.addresses import may_dial
from network.http.urls import Target, parse_url

MAX_REDIRECTS: Final = 3


@dataclass(frozen=True, slots=True)
class HostLimits:
    """The limits of requests to one host.

    `rate` requests a second with bursts of `burst`, `concurrency` at once. A request
    that would wait longer than `max_wait` seconds fails at once.
    """

    rate: float = 10.0
    burst: int = 20
    concurrency: int = 8
    max_wait: float = 30.0


@dataclass(frozen=True, slots=True)
class CallerBudget:
    """A caller's own budget at each host, apart from those of other callers.

    For requests on behalf of one user. A 429 or 503 is returned as any other status and
    pauses nobody else.
    """

    caller: str
    limits: HostLimits


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of addresses, times and sizes, in seconds and bytes.

    `allow_loopback` is for development only: hosts may then be loopback and http.
    """

    allow_loopback: bool = False
    connect_timeout: float = 5.0
    first_byte_timeout: float = 10.0
    total_timeout: float = 30.0
    stream_timeout: float = 3_600.0
    floor_bytes_per_s: int = 64_000
    floor_window: float = 60.0
    max_retry_after: float = 3_600.0
    default_retry_after: float = 5.0
    max_hosts: int = 10_000
    max_connections: int = 512
    stream_dials_per_s: float = 10.0
    limits: HostLimits = field(default_factory=HostLimits)

    def parse(self, url: str) -> Target:
        """Return a checked URL. Raises ForbiddenAddressError."""
        return parse_url(url, allow_loopback=self.allow_loopback)

    def may_dial(self, address: str) -> bool:
        """Return True if a resolved address may be connected to."""
        return may_dial(address, allow_loopback=self.allow_loopback)
