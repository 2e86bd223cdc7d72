"""A scope reconciler that runs one round at a time, and what the index holds."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

from crawl_author import Author
from crawl_world import CrawlWorld, wait_until

from crawler.database import Database
from crawler.scope.reconciler import ScopeReconciler


class Rounds:
    """A keeper that does a round when it is told to, on a loop of its own."""

    def __init__(self, world: CrawlWorld, **changes: Any) -> None:
        self._world = world
        self._changes = changes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> Rounds:
        self._thread.start()
        self._await(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self.keeper.close())
        self._await(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self) -> None:
        clients = await self._stack.enter_async_context(self._world.open_clients())
        self.keeper = ScopeReconciler(
            self._world.settings(**self._changes),
            Database(self._world.pool),
            clients,
            self._world.sink.remove_out_of_scope,
            self._world.sink.keep_wanted,
        )

    def _await(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def look(self) -> bool:
        return bool(self._await(self.keeper.look()))


def scoped(world: CrawlWorld) -> set[str]:
    return {did for (did,) in world.query("SELECT did FROM scope_account")}


def dids(*authors: Author) -> set[str]:
    return {author.did for author in authors}


def bring_in(world: CrawlWorld, *authors: Author) -> None:
    with world.crawling():
        wait_until(lambda: world.follows(*authors))


def bring_in_parts(world: CrawlWorld, *authors: Author) -> None:
    def held() -> bool:
        heads = world.heads()
        return all(heads.get(a.did, ("",))[0] == "synchronized" for a in authors)

    with world.crawling():
        wait_until(held)
