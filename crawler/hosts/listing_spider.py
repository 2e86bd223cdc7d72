"""The listRepos crawl of many hosts, driven by Scrapy without a reactor.

One crawl is one bounded batch. It may run repeatedly in one process, in any thread.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import scrapy
from scrapy.crawler import AsyncCrawlerRunner
from scrapy.http import Request, Response
from scrapy.settings import Settings

from crawler.hosts.listing import ListedHost, Listing
from crawler.methods import LIST_REPOS
from network.errors import BadResponseError
from network.http.client import Fetcher
from storage.hosts import host_rows

log = logging.getLogger(__name__)

MAX_PAGE_BYTES: Final = 5_000_000
_PAGE_TIMEOUT: Final = 30
_PAGE_LIMIT: Final = 1_000


@dataclass(slots=True)
class ListingFailure:
    """A listing that broke off: its error, or the pause that the host asks for.
    `refused`: the host called the request invalid."""

    host: host_rows.Host
    error: str
    retry_after: float | None = None
    refused: bool = False


def scrapy_settings(*, hosts_at_once: int, crawl_seconds: float) -> Settings:
    """Return the settings of a polite crawl of small documents."""
    handler = "crawler.hosts.scrapy_handler.GuardedDownloadHandler"
    return Settings(
        {
            # Scrapy's asyncio mode; it must be known before a crawler is made.
            "TWISTED_REACTOR_ENABLED": False,
            "DOWNLOAD_HANDLERS": {"http": handler, "https": handler},
            "DOWNLOAD_MAXSIZE": MAX_PAGE_BYTES,
            "DOWNLOAD_TIMEOUT": _PAGE_TIMEOUT,
            "DOWNLOAD_DELAY": 0,
            "CONCURRENT_REQUESTS": hosts_at_once,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 1,
            "AUTOTHROTTLE_ENABLED": True,
            "AUTOTHROTTLE_START_DELAY": 0.05,
            "AUTOTHROTTLE_MAX_DELAY": 30,
            "RETRY_TIMES": 2,
            "CLOSESPIDER_TIMEOUT": crawl_seconds,
            "REDIRECT_ENABLED": False,
            "COOKIES_ENABLED": False,
            "HTTPPROXY_ENABLED": False,
            "ROBOTSTXT_OBEY": False,
            "LOG_ENABLED": False,
            "LOGSTATS_INTERVAL": 0,
            "STATS_DUMP": False,
        }
    )


class ListReposSpider(scrapy.Spider):
    """Follows each host's pages in order, all hosts at the same time."""

    name = "list_repos"

    def __init__(
        self,
        fetcher: Fetcher,
        listing: Listing,
        targets: Sequence[ListedHost],
        failures: list[ListingFailure],
    ) -> None:
        super().__init__()
        self.fetcher = fetcher
        self._listing = listing
        self._targets = targets
        self._failures = failures

    async def start(self) -> AsyncIterator[Request]:
        for target in self._targets:
            yield self._request(target, target.cursor)

    def _request(self, target: ListedHost, cursor: str | None) -> Request:
        params = {"limit": str(_PAGE_LIMIT)}
        if cursor is not None:
            params["cursor"] = cursor
        return Request(
            f"{target.host.url}/xrpc/{LIST_REPOS}?{urlencode(params)}",
            callback=self.take_page,
            errback=self.note_failure,
            cb_kwargs={"target": target},
            # Statuses are ours to read; a page may be asked for again by a later
            # crawl, and within one the page guard sees repetitions.
            meta={"handle_httpstatus_all": True, "download_slot": target.host.hostname},
            dont_filter=True,
        )

    async def take_page(
        self, response: Response, target: ListedHost
    ) -> AsyncIterator[Request]:
        if response.status != 200:
            refused = 400 <= response.status < 500
            self._fail(target, f"listRepos answered {response.status}", refused=refused)
            return
        try:
            cursor = await self._listing.take_page(target, response.body)
        except BadResponseError as error:
            self._fail(target, str(error))
            return
        if cursor is not None:
            yield self._request(target, cursor)

    def note_failure(self, failure: Any) -> None:
        request = failure.request
        self._fail(
            request.cb_kwargs["target"],
            str(failure.value),
            request.meta.get("retry_after"),
        )

    def _fail(
        self,
        target: ListedHost,
        error: str,
        retry_after: float | None = None,
        *,
        refused: bool = False,
    ) -> None:
        failure = ListingFailure(target.host, error, retry_after, refused)
        self._failures.append(failure)


async def crawl_listings(
    fetcher: Fetcher,
    listing: Listing,
    targets: Sequence[ListedHost],
    *,
    hosts_at_once: int = 16,
    crawl_seconds: float = 60.0,
) -> list[ListingFailure]:
    """Read the listings of hosts; return those that broke off.

    Stops after `crawl_seconds`; the next crawl continues from the saved cursors. Needs
    a running event loop.
    """
    failures: list[ListingFailure] = []
    runner = AsyncCrawlerRunner(
        scrapy_settings(hosts_at_once=hosts_at_once, crawl_seconds=crawl_seconds)
    )
    await runner.crawl(
        ListReposSpider,
        fetcher=fetcher,
        listing=listing,
        targets=targets,
        failures=failures,
    )
    return failures
