"""The reader of one host's stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from crawler.backoff import full_jitter
from crawler.database import Database
from crawler.hosts.discovery import probe
from crawler.hosts.host_name import HostName
from crawler.live.intake import Intake
from crawler.live.stream_budget import budget_of
from crawler.live.stream_state import Fault, StreamState
from crawler.methods import SUBSCRIBE_REPOS
from crawler.settings import MIB, CrawlSettings
from network.errors import NetworkError, XrpcError
from network.http.client import Fetcher
from network.streams.stream_client import StreamClient
from network.streams.stream_events import (
    Connected,
    Disconnected,
    DisconnectReason,
    StreamEvent,
    StreamTimes,
)
from protocol.errors import ProtocolError
from protocol.events.frames import peek_frame
from storage import cursors
from storage.hosts import host_relays, host_rows, host_strikes
from storage.postgres.pool import Conn

log = logging.getLogger(__name__)

FUTURE_CURSOR: Final = "FutureCursor"

# While the gate has enough to do, frames are read in bursts: each wake-up of this
# thread takes the interpreter from the gate.
_BEHIND_BYTES: Final = 2 * MIB
_BURST_FRAMES: Final = 64
_BURST_PAUSE: Final = 0.005
_OWN_RECHECK_S: Final = 900.0

# Faults that no honest host has.
_STRIKES: Final = frozenset((DisconnectReason.OVERSIZE, DisconnectReason.TEXT_FRAME))


class StreamReader:
    """Reads a host's stream into the pipeline until it is cancelled or gives up.

    After a fault the stream resumes behind the last frame that the gate handled.
    """

    def __init__(
        self,
        host: host_rows.Host,
        fetcher: Fetcher,
        intake: Intake,
        database: Database,
        settings: CrawlSettings,
        *,
        times: StreamTimes | None = None,
    ) -> None:
        self._host = host
        self._fetcher = fetcher
        self._intake = intake
        self._database = database
        self._settings = settings
        self._times = times
        self._budget = budget_of(host, settings)
        self._state = StreamState(host.id, HostName(host.hostname))
        self._last_raw: bytes | None = None
        self._start: int | None = None
        self._resume: int | None = None
        self._faults = 0
        self._recheck = False
        self._at_tip = False
        self._writes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Read until cancelled; return when the host must be left alone."""
        try:
            if not await self._introduce():
                return
            cursor = await self._write(
                lambda conn: cursors.resume_stream(
                    conn, self._host.id, shards=self._settings.shards
                )
            )
            await self._read(cursor)
        finally:
            await asyncio.gather(*self._writes, return_exceptions=True)

    async def _introduce(self) -> bool:
        """Probe an untrusted new host before its stream is opened."""
        host = self._host
        if host.trusted or host.relay or host.state != host_rows.HOST_NEW:
            return True
        try:
            await probe(self._fetcher, host.url)
        except (NetworkError, XrpcError) as error:
            await self._give_up(f"not a PDS: {error}", self._wait(host.tries + 1))
            return False
        return True

    async def _read(self, cursor: int | None) -> None:
        url = self._stream_url()
        while True:
            state = self._open_state(cursor)
            try:
                async with StreamClient(
                    self._fetcher,
                    url,
                    self._position,
                    on_event=self._note,
                    max_failures=self._settings.offline_after,
                    times=self._times,
                ) as client:
                    state.on_fault = _closer(client)
                    await self._pump(client, state)
            except NetworkError as error:
                log.info(
                    "stream_given_up",
                    extra={"host": self._host.hostname, "why": str(error)},
                )
                await self._give_up(str(error), self._recheck_wait())
                return
            if state.fault is None or not await self._handle_fault(state):
                return
            cursor = self._resume

    async def _pump(self, client: StreamClient, state: StreamState) -> None:
        async for raw in client:
            if state.fault is not None:
                return
            self._last_raw = raw
            if self._at_tip:
                # The host may have been compared before its stream was set up.
                self._at_tip = False
                await self._write(
                    lambda conn: host_rows.request_listing(conn, self._host.id)
                )
            state.received += 1
            await self._intake.put(state, raw)
            rest = self._budget.spend(len(raw), state.throttled)
            if rest > 0.0:
                await asyncio.sleep(rest)
            if (
                state.received % _BURST_FRAMES == 0
                and self._intake.queued_bytes > _BEHIND_BYTES
            ):
                await asyncio.sleep(_BURST_PAUSE)

    def _open_state(self, cursor: int | None) -> StreamState:
        host = self._host
        self._last_raw = None
        self._start = cursor
        self._state = StreamState(
            host.id,
            HostName(host.hostname),
            relay=host.relay,
            trusted=host.trusted or host.relay,
            last_seq=cursor or 0,
            resumed_at=cursor or 0,
            from_tip=cursor is None,
        )
        self._intake.add_stream(self._state)
        return self._state

    def _position(self) -> int | None:
        """Return the cursor of a new connection: behind the last frame that was
        received, even if the gate has not handled it."""
        position = self._state.last_seq
        if self._last_raw is not None:
            try:
                _, seq = peek_frame(self._last_raw)
            except ProtocolError:
                seq = None
            position = max(position, seq or 0)
        self._state.resumed_at = position
        # 0 asks for the oldest frame that the host keeps, None for the newest.
        return position or self._start

    async def _handle_fault(self, state: StreamState) -> bool:
        """Return True to go on from `_resume`, False to leave the host alone."""
        host, detail = self._host, f"{state.fault}: {state.detail}"
        moved = state.last_seq > (self._start or 0)
        self._faults = 1 if moved else self._faults + 1
        log.warning("stream_fault", extra={"host": host.hostname, "why": detail})
        self._resume = state.last_seq or self._start
        stuck = self._faults >= self._settings.bad_frames_allowed
        # The host says so, or starts again at a low number without saying so.
        self._recheck = (
            state.fault is Fault.ERROR and state.detail == FUTURE_CURSOR
        ) or (state.fault is Fault.BAD_SEQ and stuck)
        if self._recheck:
            await self._intake.reset(host.id)
            self._resume = None
        elif stuck:
            if not host.relay:
                await self._give_up(detail, self._wait(host.tries + 1))
                return False
            # A relay carries other hosts too: skip the frame, and compare them.
            self._resume = (self._resume or 0) + 1
            self._faults = 0
            await self._write(_compare_relayed_hosts)
        await self._write(
            lambda conn: host_rows.note_failure(conn, host.id, detail, wait=0.0)
        )
        await asyncio.sleep(full_jitter(self._faults + 1, cap=60.0))
        return True

    def _note(self, event: StreamEvent) -> None:
        host = self._host.id
        if isinstance(event, Connected):
            state = (
                host_rows.HOST_RECHECK if self._recheck else host_rows.HOST_STREAMING
            )
            self._spawn_write(lambda conn: host_rows.note_contact(conn, host, state))
            self._at_tip = event.cursor is None
            if self._at_tip:
                # Events before the tip are found by comparing from now on.
                gap = self._recheck
                self._spawn_write(
                    lambda conn: host_rows.request_listing(conn, host, gap=gap)
                )
            return
        assert isinstance(event, Disconnected)
        detail = f"{event.reason}: {event.detail}"
        self._spawn_write(
            lambda conn: host_rows.note_failure(
                conn, host, detail, wait=event.retry_in or 0.0
            )
        )
        if event.reason in _STRIKES:
            self._spawn_write(
                lambda conn: host_strikes.add_strikes(
                    conn,
                    host,
                    1,
                    limit=self._settings.strike_limit,
                    wait=self._settings.throttle_time,
                )
            )

    async def _give_up(self, why: str, wait: float) -> None:
        await self._write(
            lambda conn: host_rows.note_failure(
                conn, self._host.id, why, wait=wait, state=host_rows.HOST_OFFLINE
            )
        )

    def _recheck_wait(self) -> float:
        """Return the seconds until a host that is away is tried again."""
        longest = self._settings.offline_recheck
        own = self._host.trusted or self._host.relay
        return min(longest, _OWN_RECHECK_S) if own else longest

    def _wait(self, tries: int) -> float:
        return full_jitter(tries, base=10.0, cap=self._settings.offline_recheck)

    async def _write(self, work: Callable[[Conn], Any]) -> Any:
        return await asyncio.to_thread(self._database.run, work)

    def _spawn_write(self, work: Callable[[Conn], Any]) -> None:
        async def write() -> None:
            await self._write(work)

        task = asyncio.create_task(write())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def _stream_url(self) -> str:
        scheme, _, rest = self._host.url.partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/xrpc/{SUBSCRIBE_REPOS}"


def _closer(client: StreamClient) -> Callable[[], None]:
    """Return a function with which another thread ends a client's iteration."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def close() -> None:
        task = loop.create_task(client.aclose())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return lambda: _call_soon(loop, close)


def _call_soon(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(work)


def _compare_relayed_hosts(conn: Conn) -> None:
    for host in host_relays.relayed_hosts(conn):
        host_rows.request_listing(conn, host)
