"""The readers that the crawler opens and closes as the host table says."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from crawler.live import firehose
from crawler.live.firehose import Firehose
from crawler.settings import CrawlSettings


async def test_ended_reader_is_not_reopened_from_an_older_host_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[int] = []

    class FakeReader:
        def __init__(self, host: Any, *_: Any, **__: Any) -> None:
            self._host = host

        async def run(self) -> None:
            opened.append(self._host.id)
            if self._host.id == 1:
                await asyncio.sleep(60)

    monkeypatch.setattr(firehose, "StreamReader", FakeReader)
    nothing: Any = SimpleNamespace(fetcher=None)
    crawl = Firehose(CrawlSettings(), "", nothing, nothing, nothing)
    wanted: list[Any] = [SimpleNamespace(id=1), SimpleNamespace(id=2)]
    opens = []
    for _ in range(3):
        await crawl._match_readers(wanted, nothing, nothing)
        await asyncio.sleep(0)
        opens.append(list(opened))
    await crawl._close_readers(list(crawl._readers))
    # The second reader ends at once. Its host is opened again a round later, with the
    # row of that round.
    assert opens == [[1, 2], [1, 2], [1, 2, 2]]
