"""Settings of the crawler, from the configuration."""

from __future__ import annotations

from crawler.hosts.host_name import InvalidHostError, parse_host
from crawler.settings import CrawlSettings
from protocol.errors import InvalidSyntaxError
from protocol.syntax.did import parse_did
from service.operator_errors import ConfigError
from service.runtime.config import Config

# Longest interval of a host where nothing changes, in poll intervals.
_POLL_LONGEST = 4


def crawl_settings(config: Config) -> CrawlSettings:
    """Return the crawler's settings."""
    return CrawlSettings(
        dev=config.dev_network,
        account_cap=config.account_cap or None,
        host_accounts_first_day=config.host_accounts_first_day,
        host_accounts_per_day=config.host_accounts_per_day,
        host_events_per_s=config.host_events_per_s,
        host_bytes_per_s=config.host_bytes_per_s,
        plc_rate=config.plc_rate,
        account_commits_per_s=config.account_commits_per_s,
        streams_at_once=config.streams_at_once,
        poll_interval=config.poll_interval_s,
        poll_longest=_POLL_LONGEST * config.poll_interval_s,
        rebroadcast=config.event_log,
        shards=config.shards,
    )


def check_targets(config: Config) -> None:
    """Raise ConfigError for a relay, host or DID that cannot be crawled."""
    for name in ("relays", "hosts"):
        for text in getattr(config, name):
            try:
                parse_host(text, dev=config.dev_network)
            except InvalidHostError as error:
                raise ConfigError(f"{name}: {error}") from error
    for did in config.dids:
        try:
            parse_did(did)
        except InvalidSyntaxError as error:
            raise ConfigError(f"dids: {error}") from error
