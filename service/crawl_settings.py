"""The crawler's bounds, from the configuration."""

from __future__ import annotations

from crawler.settings import CrawlSettings
from service.config import Config


def crawl_settings(config: Config) -> CrawlSettings:
    """What the crawler may do, as the operator set it."""
    return CrawlSettings(
        dev=config.dev_network,
        account_cap=config.account_cap or None,
        host_accounts_per_day=config.host_accounts_per_day,
        dids=frozenset(config.dids),
    )
