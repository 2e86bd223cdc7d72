"""Scrapy downloads through our guarded client.

Scrapy brings the scheduling: a slot per host, AutoThrottle, retries, duplicates. All
bytes come through network.http.client and its guard.
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
    """A Scrapy download handler. The spider carries the open fetcher."""

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
            # Not to be retried now: the spider learns the pause.
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
        # Read by AutoThrottle.
        request.meta["download_latency"] = time.monotonic() - started
        return TextResponse(
            request.url, status=fetched.status, body=fetched.body, encoding="utf-8"
        )

    async def close(self) -> None:
        """Do nothing: the fetcher belongs to the caller of the crawl."""
