"""One of the processes that serve the same port, and its part of what they share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from network.http.policy import HostLimits
from network.server.shared_buckets import SharedBuckets
from service.runtime.config import Config


@dataclass(frozen=True, slots=True)
class ServingProcess:
    """The `number` of a process among `count` with common rate limits.

    Requests to other hosts and files on disk must not multiply: each process has its
    part of these.
    """

    number: int = 0
    count: int = 1
    buckets: SharedBuckets | None = None

    @property
    def is_first(self) -> bool:
        """Return True for the process that does what is done once."""
        return self.number == 0

    def part_of(self, limits: HostLimits) -> HostLimits:
        """Return the part of the limits of requests to one host."""
        return replace(
            limits,
            rate=limits.rate / self.count,
            burst=max(1, limits.burst // self.count),
            concurrency=max(1, limits.concurrency // self.count),
        )

    def part_of_settings(self, config: Config) -> Config:
        """Return the settings with the part of their totals."""
        return config.model_copy(
            update={
                "host_requests_per_s": config.host_requests_per_s / self.count,
                "host_concurrency": max(1, config.host_concurrency // self.count),
                "plc_requests_per_s": config.plc_rate / self.count,
                "image_cache_mb": config.image_cache_mb / self.count,
            }
        )


ALONE: Final = ServingProcess()
"""The only process of its server."""
