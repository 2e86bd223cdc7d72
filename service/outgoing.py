"""The guarded HTTP client of a process, and its identity resolver.

Imports are late: processes without a client start faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.runtime.config import Config

if TYPE_CHECKING:
    from network.http.client import Fetcher
    from network.http.policy import HostLimits
    from network.identity.did_sources import DocumentMirror
    from network.identity.identity_cache import IdentityCache
    from network.identity.resolver import IdentityResolver


def make_fetcher(
    config: Config, *, limits: HostLimits | None = None, **policy: Any
) -> Fetcher:
    """Return a guarded client, by default with the configured limits per host."""
    from network.http.client import Fetcher
    from network.http.policy import HostLimits, Policy

    limits = limits or HostLimits(
        rate=config.host_requests_per_s,
        burst=max(1, int(2 * config.host_requests_per_s)),
        concurrency=config.host_concurrency,
    )
    return Fetcher(
        Policy(allow_loopback=config.dev_network, limits=limits, **policy),
        user_agent=config.user_agent,
    )


def make_resolver(
    config: Config,
    fetcher: Fetcher,
    cache: IdentityCache | None = None,
    mirror: DocumentMirror | None = None,
) -> IdentityResolver:
    """Return a resolver of identities with the configured directory."""
    from network.identity.resolver import IdentityLimits, IdentityResolver

    return IdentityResolver(
        fetcher,
        config.directory_url,
        cache,
        dev=config.dev_network,
        dev_pds=config.hosts if config.dev_network else (),
        mirror=mirror,
        limits=IdentityLimits(plc_rate=config.plc_rate),
    )
