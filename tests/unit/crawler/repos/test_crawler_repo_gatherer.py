"""Small repos that wait for each other, with a sink that holds them up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from crawler.repos.repo_gatherer import RepoGatherer
from crawler.settings import MIB
from indexer.repos.repo_batch import FetchedRepo
from protocol.repo.whole_repo import RepoRecord
from protocol.syntax.did import Did

RECORD = cast(RepoRecord, None)


class _Sink:
    """Writes nothing until `go`; remembers how many repos came at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[int] = []

    def import_repos(self, repos: Sequence[FetchedRepo]) -> Mapping[Did, Exception]:
        assert self.go.wait(60)
        self.batches.append(len(repos))
        return {}


def repo(number: int, records: int) -> FetchedRepo:
    return FetchedRepo(Did(f"did:plc:{number}"), 1, cast(Any, None), [RECORD] * records)


def test_gatherer_is_full_while_more_than_a_batch_waits() -> None:
    async def work() -> None:
        sink = _Sink()
        with ThreadPoolExecutor(1) as threads:
            gatherer = RepoGatherer(cast(Any, sink), threads)
            first = asyncio.create_task(gatherer.put(repo(0, 9_999), 0))
            await asyncio.sleep(0)
            assert not gatherer.full
            second = asyncio.create_task(gatherer.put(repo(1, 1), 0))
            await asyncio.sleep(0)
            assert gatherer.full
            sink.go.set()
            await asyncio.gather(first, second)
            # Written repos wait no more.
            assert not gatherer.full
            third = asyncio.create_task(gatherer.put(repo(2, 9_999), 0))
            await asyncio.sleep(0)
            assert not gatherer.full
            await third
            await gatherer.close()
        assert sink.batches == [2, 1]

    asyncio.run(work())


def test_batches_of_large_records_are_shorter() -> None:
    async def work() -> None:
        sink = _Sink()
        with ThreadPoolExecutor(1) as threads:
            gatherer = RepoGatherer(cast(Any, sink), threads)
            waiting = []
            for number in range(10):
                assert gatherer.full == (number >= 8)
                one = gatherer.put(repo(number, 1), 2 * MIB)
                waiting.append(asyncio.create_task(one))
                await asyncio.sleep(0)
            sink.go.set()
            await asyncio.gather(*waiting)
            assert not gatherer.full
            await gatherer.close()
        assert sink.batches == [8, 2]

    asyncio.run(work())
