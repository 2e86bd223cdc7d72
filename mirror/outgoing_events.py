"""The event log for outgoing streams: numbered, without hidden accounts."""

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
class OutgoingEvent:
    """An event of the log; `t` is its kind ("#commit").

    The body is not kept decoded: empty maps take sixty times as much.
    """

    logged: event_log.LoggedEvent
    did: str
    t: str | None
    active: bool = False


class OutgoingEvents(Generic[T]):
    """A source for `network.streams.event_feed`; `form` makes its items of events.

    Commits and syncs of accounts that are not active are left out. Their account events
    are not.
    """

    def __init__(self, app: AppView, form: Callable[[OutgoingEvent], T]) -> None:
        self._app = app
        self._form = form
        # Replays leave the connections of the pool to requests.
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def tail(self) -> int:
        """Return the newest number; 0 for none."""
        return (await self._ask(event_log.load_tail))[0]

    async def oldest(self) -> int:
        """Return the oldest number that is kept, or the next one."""
        return await self._ask(event_log.load_oldest)

    async def seq_at(self, time_us: int) -> int:
        """Return the number before the first event at `time_us` or later."""
        return await self._ask(lambda conn: event_log.find_seq(conn, time_us))

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, T]]:
        """Return the next events above `seq`, about `limit`."""
        return await self._ask(lambda conn: self._read(conn, seq, limit))

    async def _ask(self, question: Callable[[Conn], R]) -> R:
        def ask() -> R:
            with self._app.pool.connection() as conn:
                return question(conn)

        return await anyio.to_thread.run_sync(ask, limiter=self._threads)

    def _read(self, conn: Conn, seq: int, limit: int) -> list[tuple[int, T]]:
        # A page may be hidden as a whole; the log goes on.
        while logged := event_log.events_after(conn, seq, limit):
            seq = logged[-1].seq
            events = [event for item in logged if (event := _open(item)) is not None]
            hidden = event_log.find_hidden(conn, {event.did for event in events})
            shown: list[tuple[int, T]] = []
            for event in events:
                if event.did in hidden and not _may_be_sent(event, hidden[event.did]):
                    continue
                try:
                    shown.append((event.logged.seq, self._form(event)))
                except Exception:
                    _log_unreadable(event.logged)
            if shown:
                return shown
        return []


def numbered_frame(event: OutgoingEvent) -> bytes:
    """Return the frame for subscribers, under our own number."""
    return renumber(event.logged.frame, event.logged.seq)


def _may_be_sent(event: OutgoingEvent, taken_down: bool) -> bool:
    """Return True for an event of a hidden account that may be sent.

    Content is not, nor that an account is active which we took down.
    """
    return event.t not in _CONTENT and not (taken_down and event.active)


def _open(logged: event_log.LoggedEvent) -> OutgoingEvent | None:
    try:
        _, t, body = decode_frame(logged.frame)
        did = body.get("repo" if t == COMMIT else "did")
        return OutgoingEvent(logged, did, t, body.get("active") is True)
    except Exception:
        _log_unreadable(logged)
        return None


def _log_unreadable(logged: event_log.LoggedEvent) -> None:
    """Log an event that cannot be read, and skip it.

    It was checked before it was logged: a bug, which must not stop the stream.
    """
    log.exception("unreadable_event", extra={"seq": logged.seq})
