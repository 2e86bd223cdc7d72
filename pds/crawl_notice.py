"""Telling indexers that this server exists and has news (`requestCrawl`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import orjson

from network.client import Fetcher
from network.errors import NetworkError
from pds.sequencer import EventLog

log = logging.getLogger(__name__)

REQUEST_CRAWL: Final = "com.atproto.sync.requestCrawl"
_FIRST_RETRY_SECONDS: Final = 1.0
_LAST_RETRY_SECONDS: Final = 60.0
_MAX_ANSWER_BYTES: Final = 65_536


class CrawlNotice:
    """Sends `requestCrawl` at the start, and once an interval in which there was news.

    An indexer that did not answer is told again, soon at first, for it may only be
    starting.
    """

    def __init__(
        self,
        hostname: str,
        indexer_urls: Sequence[str],
        fetcher: Fetcher,
        log_: EventLog,
        *,
        interval: float,
    ) -> None:
        self._body = orjson.dumps({"hostname": hostname})
        self._urls = [f"{url.rstrip('/')}/xrpc/{REQUEST_CRAWL}" for url in indexer_urls]
        self._fetcher = fetcher
        self._log = log_
        self._interval = interval

    async def run(self) -> None:
        """Until cancelled."""
        if not self._urls:
            return
        async with asyncio.TaskGroup() as group:
            for url in self._urls:
                group.create_task(self._keep_telling(url))

    async def _keep_telling(self, url: str) -> None:
        retry = _FIRST_RETRY_SECONDS
        while True:
            seq = self._log.last_seq
            if not await self._tell(url):
                await asyncio.sleep(retry)
                retry = min(2 * retry, _LAST_RETRY_SECONDS)
                continue
            retry = _FIRST_RETRY_SECONDS
            await asyncio.sleep(self._interval)
            await self._log.wait_beyond(seq)

    async def _tell(self, url: str) -> bool:
        try:
            answer = await self._fetcher.post(
                url,
                body=self._body,
                headers={"content-type": "application/json"},
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except NetworkError as error:
            log.warning("requestCrawl failed", extra={"url": url, "why": str(error)})
            return False
        if answer.status != 200:
            log.warning(
                "requestCrawl refused", extra={"url": url, "status": answer.status}
            )
        return answer.status == 200
