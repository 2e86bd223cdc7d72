"""Identity look-ups for the gate: asked from a thread, done on the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from crawler.identities.accounts import EARLY_LOOKS
from crawler.identities.turns import Turn, Turns
from crawler.live.rounds import LookedUp
from network.errors import DidTombstonedError, IdentityError, NetworkError
from network.identity.resolver import IdentityResolver
from protocol.errors import ProtocolError
from protocol.syntax.did import Did, did_method

log = logging.getLogger(__name__)


class Lookups:
    """Runs look-ups; each account that is asked for ends in one call of `answer`.

    The hosts whose frames wait are served in turn. At most `limit` are under way at
    the directory, and as many at the domains of accounts, each of which may be there to
    keep us waiting: of these slots a host has `per_host` at once. A domain that has not
    answered within `patience` seconds is asked again when it is the turn of hosts with
    such domains, and for as long as the resolver waits then.
    """

    def __init__(
        self,
        resolver: IdentityResolver,
        answer: Callable[[LookedUp], None],
        *,
        limit: int,
        per_host: int,
        patience: float,
    ) -> None:
        self._resolver = resolver
        self._answer = answer
        self._directory = Turns(limit, limit)
        self._domains = Turns(limit, per_host)
        self._patience = patience
        # Whether the document must be fresh; None while the look-up is under way.
        self._asked: dict[Did, bool | None] = {}
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self, did: Did, refresh: bool, host: int) -> None:
        """Start a look-up for a frame of `host`. May be called from any thread."""
        self._loop.call_soon_threadsafe(self._wait, did, refresh, host)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wait(self, did: Did, refresh: bool, host: int) -> None:
        asked = self._asked.get(did, False)
        if asked is None:
            return
        self._asked[did] = asked or refresh
        turns = self._directory if did_method(did) == "plc" else self._domains
        turns.wait(host, did)
        self._start(turns)

    def _start(self, turns: Turns) -> None:
        while (turn := turns.take()) is not None:
            refresh, self._asked[turn.did] = bool(self._asked[turn.did]), None
            task = self._loop.create_task(self._run(turns, turn, refresh))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, turns: Turns, turn: Turn, refresh: bool) -> None:
        did, domain = turn.did, turns is self._domains
        found = None
        began = self._loop.time()
        try:
            with suppress(TimeoutError):
                patience = self._patience if domain and not turn.late else None
                async with asyncio.timeout(patience):
                    # The gate bounds how often it wants one, for each account and
                    # each host; identity events may have used up what is early.
                    insist = 1 + EARLY_LOOKS if refresh else 0
                    found = await look_up(
                        self._resolver, did, refresh=refresh, insist=insist
                    )
            if found is not None:
                self._answer(found)
        finally:
            del self._asked[did]
            took = self._loop.time() - began
            turns.give_back(turn, late=domain and took >= self._patience)
        if found is None:
            self._asked[did] = refresh
            turns.wait(turn.host, did, first=True)
        self._start(turns)


async def look_up(
    resolver: IdentityResolver,
    did: Did,
    *,
    refresh: bool,
    insist: int = 0,
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
