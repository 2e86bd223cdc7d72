"""Scrapy's downloads through our own guarded client.

Scrapy brings the scheduling: a slot per host, AutoThrottle, retries, duplicates. The
bytes come through network.http.client, so that one guard (addresses at connect time, no
redirects, sizes, times, Retry-After, no proxies) stands in front of everything.
"""

from __future__ import annotations

import time
from typing import Any

from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadCancelledError,
    DownloadFailedError,
    DownloadTimeoutError,
    IgnoreRequest,
)
from scrapy.http import Request, Response, TextResponse

from network.errors import (
    ForbiddenAddressError,
    NetworkError,
    RateLimitedError,
    TimedOutError,
    TooLargeError,
    UnreachableError,
)
from network.http.client import Fetcher


class GuardedDownloadHandler:
    """A Scrapy download handler; the crawl's spider carries the open fetcher."""

    lazy = False

    def __init__(self, crawler: Any) -> None:
        self._crawler = crawler
        self._max_bytes: int = crawler.settings.getint("DOWNLOAD_MAXSIZE")
        self._timeout: float = crawler.settings.getfloat("DOWNLOAD_TIMEOUT")

    @classmethod
    def from_crawler(cls, crawler: Any) -> GuardedDownloadHandler:
        return cls(crawler)

    async def download_request(self, request: Request) -> Response:
        fetcher: Fetcher = self._crawler.spider.fetcher
        started = time.monotonic()
        try:
            fetched = await fetcher.get(
                request.url, max_bytes=self._max_bytes, timeout=self._timeout
            )
        except RateLimitedError as error:
            # Not a failure to repeat now: the spider learns how long to wait.
            request.meta["retry_after"] = error.retry_after
            raise IgnoreRequest(str(error)) from error
        except (ForbiddenAddressError, TooLargeError) as error:
            raise DownloadCancelledError(str(error)) from error
        except TimedOutError as error:
            raise DownloadTimeoutError(str(error)) from error
        except UnreachableError as error:
            raise CannotResolveHostError(str(error)) from error
        except NetworkError as error:
            raise DownloadFailedError(str(error)) from error
        # AutoThrottle steers by this figure.
        request.meta["download_latency"] = time.monotonic() - started
        return TextResponse(
            request.url, status=fetched.status, body=fetched.body, encoding="utf-8"
        )

    async def close(self) -> None:
        """Nothing to close: the fetcher belongs to whoever started the crawl."""
