"""Identity look-ups for the gate: asked from a thread, done on the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from crawler.rounds import LookedUp
from network.errors import DidTombstonedError, IdentityError, NetworkError
from network.identity import IdentityResolver
from protocol.errors import ProtocolError
from protocol.syntax.did import Did

log = logging.getLogger(__name__)


class Lookups:
    """Runs look-ups, at most `limit` at once; each ends in one call of `answer`."""

    def __init__(
        self,
        resolver: IdentityResolver,
        answer: Callable[[LookedUp], None],
        *,
        limit: int,
    ) -> None:
        self._resolver = resolver
        self._answer = answer
        self._slots = asyncio.Semaphore(limit)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self, did: Did, refresh: bool) -> None:
        """Start a look-up. May be called from any thread."""
        self._loop.call_soon_threadsafe(self._start, did, refresh)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, did: Did, refresh: bool) -> None:
        task = self._loop.create_task(self._run(did, refresh))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, did: Did, refresh: bool) -> None:
        async with self._slots:
            self._answer(await self._look_up(did, refresh))

    async def _look_up(self, did: Did, refresh: bool) -> LookedUp:
        # The gate bounds how often it wants one, for each account and each host.
        return await look_up(self._resolver, did, refresh=refresh, insist=refresh)


async def look_up(
    resolver: IdentityResolver,
    did: Did,
    *,
    refresh: bool,
    insist: bool = False,
    mirrored: bool = False,
) -> LookedUp:
    """Resolve a DID; every way it can end is an answer."""
    try:
        document = await resolver.resolve_did(
            did, refresh=refresh, insist=insist, mirrored=mirrored
        )
    except DidTombstonedError:
        return LookedUp(did, None, gone=True)
    except (IdentityError, ProtocolError):
        return LookedUp(did, None)
    except NetworkError as error:
        log.info("identity_lookup_failed", extra={"did": did, "why": str(error)})
        return LookedUp(did, None, failed=True)
    return LookedUp(did, document)
