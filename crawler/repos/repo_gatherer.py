"""Small repos wait here for each other, so that many go into one transaction."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from crawler.settings import MIB
from crawler.sink import Sink
from indexer.repos.repo_batch import FetchedRepo

_MOST_RECORDS: Final = 10_000
_MOST_REPOS: Final = 500
_MOST_BYTES: Final = 16 * MIB
_WAIT_S: Final = 0.05
"""For company, where nothing is being written anyway."""

_Waiting = tuple[FetchedRepo, int, asyncio.Future[None]]


class RepoGatherer:
    """`await put(repo, size)` returns when the repo is in the index. Use on one loop.

    One batch is written at a time: whatever is fetched meanwhile is the next one, so
    batches grow with the load.
    """

    def __init__(self, sink: Sink, threads: Executor) -> None:
        self._sink = sink
        self._threads = threads
        self._waiting: list[_Waiting] = []
        self._records = 0
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether a batch and more waits: whatever is claimed now, another process
        would write sooner."""
        return self._records >= _MOST_RECORDS or self._bytes >= _MOST_BYTES

    async def put(self, repo: FetchedRepo, size: int) -> None:
        """`size` is the bytes of its records. Raises what a checkout of this repo would
        have raised."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((repo, size, done))
        self._records += len(repo.records)
        self._bytes += size
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await done

    async def close(self) -> None:
        """Let the batch end that is being written; nothing else is begun."""
        for _, _, done in self._waiting:
            done.cancel()
        self._waiting.clear()
        self._records = self._bytes = 0
        if self._writer is not None:
            await asyncio.wait([self._writer])

    async def _write(self) -> None:
        try:
            await asyncio.sleep(_WAIT_S)
            while self._waiting:
                await self._write_batch(self._take())
        finally:
            self._writer = None

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        records, size = _MOST_RECORDS, _MOST_BYTES
        while self._waiting and len(taken) < _MOST_REPOS and records > 0 and size > 0:
            waiting = self._waiting.pop(0)
            repo, repo_size, done = waiting
            self._records -= len(repo.records)
            self._bytes -= repo_size
            if not done.cancelled():
                records -= len(repo.records)
                size -= repo_size
                taken.append(waiting)
        return taken

    async def _write_batch(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        repos = [repo for repo, _, _ in batch]
        try:
            failed = await loop.run_in_executor(
                self._threads, self._sink.import_repos, repos
            )
        except Exception as error:  # handed to those who wait for it
            failed = dict.fromkeys((repo.did for repo in repos), error)
        for repo, _, done in batch:
            if done.done():
                continue
            fault = failed.get(repo.did)
            if fault is None:
                done.set_result(None)
            else:
                done.set_exception(fault)
