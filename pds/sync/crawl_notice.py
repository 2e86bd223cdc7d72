"""Notices to indexers that this server has news (`requestCrawl`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import orjson
import psycopg
from psycopg_pool import PoolTimeout

from network.errors import NetworkError
from network.http.client import Fetcher
from pds.sync.sequencer import StoredEvents

log = logging.getLogger(__name__)

REQUEST_CRAWL: Final = "com.atproto.sync.requestCrawl"
_FIRST_RETRY_SECONDS: Final = 1.0
_LAST_RETRY_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 10.0
_MAX_ANSWER_BYTES: Final = 65_536


class CrawlNotice:
    """The sender of `requestCrawl`: at the start, and once an interval with news.

    A failed notice is retried, with a back-off.
    """

    def __init__(
        self,
        hostname: str,
        indexer_urls: Sequence[str],
        fetcher: Fetcher,
        events: StoredEvents,
        *,
        interval: float,
    ) -> None:
        self._body = orjson.dumps({"hostname": hostname})
        self._urls = [f"{url.rstrip('/')}/xrpc/{REQUEST_CRAWL}" for url in indexer_urls]
        self._fetcher = fetcher
        self._events = events
        self._interval = interval
        self._look_every = min(interval, _LOOK_SECONDS)

    async def run(self) -> None:
        """Run until cancelled; return at once without indexers."""
        async with asyncio.TaskGroup() as group:
            for url in self._urls:
                group.create_task(self._keep_telling(url))

    async def _keep_telling(self, url: str) -> None:
        told = -1
        retry = _FIRST_RETRY_SECONDS
        while True:
            pause = self._look_every
            try:
                tail = await self._events.tail()
                if tail != told and await self._tell(url):
                    told, pause, retry = tail, self._interval, _FIRST_RETRY_SECONDS
                elif tail != told:
                    pause, retry = retry, min(2 * retry, _LAST_RETRY_SECONDS)
            except (psycopg.OperationalError, PoolTimeout) as error:
                log.warning("requestCrawl waits for the database: %s", error)
            await asyncio.sleep(pause)

    async def _tell(self, url: str) -> bool:
        try:
            answer = await self._fetcher.post(
                url,
                body=self._body,
                headers={"content-type": "application/json"},
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except NetworkError as error:
            log.warning("requestCrawl to %s failed: %s", url, error)
            return False
        if answer.status != 200:
            log.warning("requestCrawl to %s answered %d", url, answer.status)
        return answer.status == 200
