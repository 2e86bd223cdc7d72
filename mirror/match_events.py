"""The log of matches for streams and webhooks, with the records as they are now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio

from appview.app import AppView
from appview.views.common import datetime_text
from protocol.data.cbor import Value, decode
from protocol.data.cid import cid_for, cid_to_text
from protocol.data.json_form import to_json
from search.matches import match_log
from search.matches.match_log import Match
from storage.postgres.pool import Conn
from storage.private.takedowns import NOTHING, TakenDown
from storage.records.addresses import Address, name_addresses_in
from storage.records.record_rows import fetch_pieces
from storage.states import STATUS_ACTIVE

_THREADS: Final = 2

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ShownMatch:
    """A match whose record is shown."""

    match: Match
    uri: str
    cid: str
    record: Value

    def fields(self) -> dict[str, Value]:
        """Return the fields of a message, links as `Cid`."""
        return {
            "seq": self.match.number,
            "search": str(self.match.search),
            "uri": self.uri,
            "cid": self.cid,
            "record": self.record,
            "matchedAt": datetime_text(self.match.matched_at),
        }

    def json(self) -> dict[str, Any]:
        """Return the fields of a message as JSON."""
        return self.fields() | {"record": to_json(self.record)}


class MatchEvents:
    """A source of matches for `network.streams.event_feed`."""

    def __init__(self, app: AppView) -> None:
        self._app = app
        # Replays leave the connections of the pool to requests.
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def tail(self) -> int:
        """Return the newest number; 0 for none."""
        return await self._ask(match_log.load_tail)

    async def oldest(self) -> int:
        """Return the oldest number that is kept, or the next one."""
        return await self._ask(match_log.load_oldest)

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, Match]]:
        """Return the next matches of all searches above `seq`."""
        found = await self._ask(lambda conn: match_log.matches_after(conn, seq, limit))
        return [(match.number, match) for match in found]

    async def matches_of(
        self, searches: Collection[int], after: int, until: int, limit: int
    ) -> list[Match]:
        """Return the next matches of some searches above `after`, up to `until`."""
        return await self._ask(
            lambda conn: match_log.matches_of(conn, [*searches], after, until, limit)
        )

    async def load(self, matches: Sequence[Match]) -> tuple[list[ShownMatch], int]:
        """Return the first of these matches that are shown, and how many were read."""
        taken = await anyio.to_thread.run_sync(
            self._app.takedowns.current, self._app.private, limiter=self._threads
        )
        return await self._ask(lambda conn: load_shown(conn, matches, taken))

    async def _ask(self, question: Callable[[Conn], R]) -> R:
        def ask() -> R:
            with self._app.pool.connection() as conn:
                return question(conn)

        return await anyio.to_thread.run_sync(ask, limiter=self._threads)


def load_shown(
    conn: Conn, matches: Sequence[Match], taken: TakenDown = NOTHING
) -> tuple[list[ShownMatch], int]:
    """Return the first of these matches that are shown, and how many were read.

    Those are all of them, unless their records are large.
    """
    addresses = [*dict.fromkeys(match.address for match in matches)]
    if not addresses:
        return [], 0
    asked, blocks = next(fetch_pieces(conn, addresses))
    read = {Address(*address) for address in asked}
    count = next((i for i, m in enumerate(matches) if m.address not in read), None)
    part = matches[:count]
    active = _find_active(conn, {address.actor for address in blocks})
    names = name_addresses_in(conn, blocks)
    shown = [
        ShownMatch(
            match,
            names[match.address],
            cid_to_text(cid_for(blocks[match.address])),
            decode(blocks[match.address]),
        )
        for match in part
        if match.address in names
        and match.address.actor in active
        and not taken.has_record(names[match.address])
    ]
    return shown, len(part)


def _find_active(conn: Conn, actors: Collection[int]) -> set[int]:
    rows = conn.execute(
        "SELECT id FROM actor WHERE id = ANY(%s) AND takedown IS NULL"
        " AND upstream_status = %s",
        (sorted(actors), STATUS_ACTIVE),
    )
    return {actor for (actor,) in rows}
