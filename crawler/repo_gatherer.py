"""Small repos wait here for each other, so that many go into one transaction."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from crawler.sink import FetchedRepo, Sink

_MOST_RECORDS: Final = 10_000
_MOST_REPOS: Final = 500
_WAIT_S: Final = 0.05
"""For company, where nothing is being written anyway."""

_Waiting = tuple[FetchedRepo, asyncio.Future[None]]


class RepoGatherer:
    """`await put(repo)` returns when the repo is in the index. Use on one loop.

    One batch is written at a time: whatever is fetched meanwhile is the next one, so
    batches grow with the load.
    """

    def __init__(self, sink: Sink, threads: Executor) -> None:
        self._sink = sink
        self._threads = threads
        self._waiting: list[_Waiting] = []
        self._records = 0
        self._writer: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether a batch and more waits: whatever is claimed now, another process
        would write sooner."""
        return self._records >= _MOST_RECORDS

    async def put(self, repo: FetchedRepo) -> None:
        """Raises what a checkout of this repo would have raised."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((repo, done))
        self._records += len(repo.records)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await done

    async def close(self) -> None:
        """Let the batch end that is being written; nothing else is begun."""
        for _, done in self._waiting:
            done.cancel()
        self._waiting.clear()
        self._records = 0
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
        records = 0
        while self._waiting and len(taken) < _MOST_REPOS and records < _MOST_RECORDS:
            waiting = self._waiting.pop(0)
            size = len(waiting[0].records)
            self._records -= size
            if not waiting[1].cancelled():
                records += size
                taken.append(waiting)
        return taken

    async def _write_batch(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        repos = [repo for repo, _ in batch]
        try:
            failed = await loop.run_in_executor(
                self._threads, self._sink.import_repos, repos
            )
        except Exception as error:  # handed to those who wait for it
            failed = dict.fromkeys((repo.did for repo in repos), error)
        for repo, done in batch:
            if done.done():
                continue
            fault = failed.get(repo.did)
            if fault is None:
                done.set_result(None)
            else:
                done.set_exception(fault)
