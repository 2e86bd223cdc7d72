"""The event log as servers of streams read it: numbered, and without what may not be
shown (any more)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import anyio

from appview.app import AppView
from protocol.events.frames import decode_frame
from protocol.events.sequenced_frames import renumber
from storage.postgres.pool import Conn
from storage.records import event_log

log = logging.getLogger(__name__)

COMMIT: Final = "#commit"
SYNC: Final = "#sync"
_CONTENT: Final = (COMMIT, SYNC)
_THREADS: Final = 2

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event of the log, `t` its kind ("#commit"). What its frame holds is not kept
    decoded: of empty maps, that takes sixty times as much."""

    logged: event_log.LoggedEvent
    did: str
    t: str | None
    active: bool = False


class SentEvents(Generic[T]):
    """A source for `network.streams.event_feed`: `form` makes its items of events.

    Commits and states of accounts that are not active here are left out, whenever
    they were logged; that an account is not active is told.
    """

    def __init__(self, app: AppView, form: Callable[[SentEvent], T]) -> None:
        self._app = app
        self._form = form
        # Replays, however many, leave the connections of the pool to requests.
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def tail(self) -> int:
        """The newest number; 0 for none."""
        return (await self._ask(event_log.load_tail))[0]

    async def oldest(self) -> int:
        """The oldest number that is kept; the next one if none is."""
        return await self._ask(event_log.load_oldest)

    async def seq_at(self, time_us: int) -> int:
        """The number to read after, so as to see what came at `time_us` and later."""
        return await self._ask(lambda conn: event_log.find_seq(conn, time_us))

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, T]]:
        """The next events above `seq`, about `limit`."""
        return await self._ask(lambda conn: self._read(conn, seq, limit))

    async def _ask(self, question: Callable[[Conn], R]) -> R:
        def ask() -> R:
            with self._app.pool.connection() as conn:
                return question(conn)

        return await anyio.to_thread.run_sync(ask, limiter=self._threads)

    def _read(self, conn: Conn, seq: int, limit: int) -> list[tuple[int, T]]:
        # All of a page may be hidden, and that is not the end.
        while logged := event_log.events_after(conn, seq, limit):
            seq = logged[-1].seq
            events = [event for item in logged if (event := _open(item)) is not None]
            hidden = event_log.find_hidden(conn, {event.did for event in events})
            shown: list[tuple[int, T]] = []
            for event in events:
                if event.did in hidden and not _may_be_told(event, hidden[event.did]):
                    continue
                try:
                    shown.append((event.logged.seq, self._form(event)))
                except Exception:
                    _pass_over(event.logged)
            if shown:
                return shown
        return []


def numbered_frame(event: SentEvent) -> bytes:
    """The frame for subscribers, under our own number."""
    return renumber(event.logged.frame, event.logged.seq)


def _may_be_told(event: SentEvent, taken_down: bool) -> bool:
    """Whether this may be said of an account that is not shown: not what it writes,
    nor that it is active when we took it down."""
    return event.t not in _CONTENT and not (taken_down and event.active)


def _open(logged: event_log.LoggedEvent) -> SentEvent | None:
    try:
        _, t, body = decode_frame(logged.frame)
        did = body.get("repo" if t == COMMIT else "did")
        return SentEvent(logged, did, t, body.get("active") is True)
    except Exception:
        _pass_over(logged)
        return None


def _pass_over(logged: event_log.LoggedEvent) -> None:
    """It was checked before it was logged: a fault of ours, of whatever kind. One
    event must not stop the stream, now or for whoever replays it."""
    log.exception("unreadable_event", extra={"seq": logged.seq})
