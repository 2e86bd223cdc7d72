"""Following another directory: pages of its export, then its stream.

One page or one burst of the stream is in memory at a time. While a stream is open the
export is still asked now and then: a quiet stream alone does not prove that nothing
happened, an answer without lines does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import psycopg

from network.errors import (
    BadResponseError,
    NetworkError,
    RateLimitedError,
    TooLargeError,
)
from network.http.client import Fetcher
from network.http.policy import HostLimits
from network.streams.stream_client import StreamRefusedError, subscribe
from plc import operation_log
from plc.mirror import (
    MAX_LINE_BYTES,
    MAX_PAGE_BYTES,
    BadExportError,
    ExportLine,
    Mirror,
    TakenIn,
    parse_line,
    read_page,
)
from plc.operation import format_time
from protocol.errors import ProtocolError
from protocol.syntax import Did
from storage.postgres.pool import Pool

log = logging.getLogger(__name__)

PAGE: Final = 1_000
MAX_LOG_BYTES: Final = 16_000_000
_BURST: Final = 500
_BURST_WAIT_S: Final = 0.1
_PAGE_TIMEOUT_S: Final = 120.0
_HEALED_AT_ONCE: Final = 20
_STABLE_S: Final = 30.0
_RECENT_S: Final = 60.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 300.0
_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404

_FAULTS: Final = (NetworkError, ProtocolError, psycopg.OperationalError)


class TornExportError(BadExportError):
    """An export by time has more operations of one time than a page holds, so that
    what follows them cannot be asked for."""


class LostPlaceError(BadExportError):
    """An export that does not reach to where it was read before."""


class RenumberedError(BadExportError):
    """An export that has another operation at the number to which it was read."""


class Follower:
    """Keeps a Mirror up with its directory.

    `rate` is requests a second, `poll_s` how often the export is asked when nothing
    is new, `stream` whether its stream is read too.
    """

    def __init__(
        self,
        mirror: Mirror,
        pool: Pool,
        fetcher: Fetcher,
        *,
        rate: float = 1.5,
        poll_s: float = 5.0,
        stream: bool = True,
        page: int = PAGE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._mirror = mirror
        self._pool = pool
        self._fetcher = fetcher
        self._poll_s = poll_s
        self._stream = stream
        self._page = page
        self._now = now
        self._whole_ms = -1
        limits = HostLimits(rate=rate, burst=max(1, int(rate)), concurrency=2)
        fetcher.set_limits(mirror.directory, limits)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop`. What goes wrong is noted and tried again, later each
        time; the mirror stays as it was, and its readers see it grow old."""
        failures = 0
        while not stop.is_set():
            wait = self._poll_s
            began = time.monotonic()
            try:
                # First: with too many doubts nothing is read on.
                await self.heal()
                await self.catch_up(stop)
                if self._stream:
                    await self._follow_stream(stop)
                failures = 0
            except StreamRefusedError as error:
                log.info("plc_stream_refused", extra={"why": str(error)})
                self._stream = False
            except _FAULTS as error:
                lasted = time.monotonic() - began >= _STABLE_S
                failures = 1 if lasted else failures + 1
                wait = _pause(failures, error)
                log.warning(
                    "plc_mirror_failed",
                    extra={"why": str(error), "wait_s": round(wait, 1)},
                )
                await self._note_error(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await stop.wait()

    async def catch_up(self, stop: asyncio.Event | None = None) -> int:
        """Read pages until nothing is left; return how many operations are new.

        Raises NetworkError, BadExportError.
        """
        new = 0
        await self._check_place()
        while stop is None or not stop.is_set():
            asked_at = self._now()
            state = await asyncio.to_thread(self._state)
            lines = await self._fetch_page(state)
            taken = await self._take_in(lines)
            new += taken.new
            if len(lines) < self._page and self._is_end(state, lines, asked_at):
                await asyncio.to_thread(self._note_caught_up, asked_at)
                break
            if lines[0].seq is None and lines[-1].created_ms == lines[0].created_ms:
                self._pass_whole_time(lines)
        return new

    def _is_end(
        self, state: operation_log.FeedState, lines: list[ExportLine], asked_at: float
    ) -> bool:
        """Whether nothing is left after a page that is not full. A directory may give
        fewer lines than it is asked for: what ends long ago is no end."""
        if not lines:
            return True
        last = lines[-1]
        if last.seq is None and last.created_ms <= (state.time_ms or 0):
            return True
        return last.created_ms >= (asked_at - _RECENT_S) * 1_000

    def _pass_whole_time(self, lines: list[ExportLine]) -> None:
        time_ms = lines[0].created_ms
        if len(lines) == self._page:
            raise TornExportError(
                f"at least {self._page} operations of {format_time(time_ms)}"
            )
        # A directory that never tears a time apart sends a longer page instead.
        self._whole_ms = time_ms

    async def heal(self, limit: int = _HEALED_AT_ONCE) -> int:
        """Ask for the whole logs of doubtful DIDs that are due; return how many of them
        are proven."""
        dids = await asyncio.to_thread(self._claim_doubts, limit)
        healed = 0
        for did in dids:
            url = f"{self._mirror.directory}/{did}/log/audit"
            try:
                fetched = await self._fetcher.get(url, max_bytes=MAX_LOG_BYTES)
                if fetched.status == _NOT_FOUND:
                    await asyncio.to_thread(self._forget_unknown, did)
                    continue
                if fetched.status != 200:
                    raise BadResponseError(f"{url}: {fetched.status}", fetched.status)
                value = fetched.json()
                await asyncio.to_thread(self._take_log, did, value)
            except (ProtocolError, BadResponseError, TooLargeError) as error:
                # Its own matter: the others are asked for all the same.
                await asyncio.to_thread(self._note_doubt, did, error)
                continue
            healed += 1
        return healed

    async def _follow_stream(self, stop: asyncio.Event) -> None:
        """Read the stream until it ends, which it does for any reason."""
        seq = (await asyncio.to_thread(self._state)).seq
        if seq is None:
            return  # an export without numbers has no stream
        url = f"{self._mirror.directory}/export/stream"
        async with subscribe(
            self._fetcher,
            "ws" + url.removeprefix("http"),
            seq,
            max_failures=1,
            max_frame_bytes=MAX_LINE_BYTES,
            text=True,
        ) as stream:
            reading = asyncio.create_task(_next(stream))
            stopping = asyncio.create_task(stop.wait())
            try:
                await self._read_bursts(stream, reading, stopping)
            finally:
                stopping.cancel()

    async def _read_bursts(
        self,
        stream: Any,
        reading: asyncio.Task[bytes],
        stopping: asyncio.Task[Any],
    ) -> None:
        burst: list[ExportLine] = []
        confirm_at = time.monotonic() + self._poll_s
        try:
            while not stopping.done():
                left = confirm_at - time.monotonic()
                wait = min(left, _BURST_WAIT_S) if burst else left
                await asyncio.wait(
                    (reading, stopping),
                    timeout=max(0.0, wait),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                arrived = reading.done()
                if arrived:
                    burst.append(parse_line(reading.result()))
                    reading = asyncio.create_task(_next(stream))
                if burst and (not arrived or len(burst) >= _BURST):
                    await self._take_in(burst)
                    burst = []
                if time.monotonic() >= confirm_at:
                    await self.catch_up()
                    await self.heal()
                    confirm_at = time.monotonic() + self._poll_s
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _check_place(self) -> None:
        """See that the export is the one which was read so far.

        Of a directory that numbered anew, what lies behind the number we had would
        never be read: it is read from its beginning. What we hold is found again.
        """
        state = await asyncio.to_thread(self._state)
        if not state.seq:
            return
        lines = await self._get(f"&after={state.seq - 1}", count=1)
        # A directory that was set back, or that once gave a number too high, has
        # nothing after our place either, and will have for long.
        if not lines:
            raise LostPlaceError(f"nothing at number {state.seq}, where we are")
        line = lines[0]
        if line.seq == state.seq and state.cid and line.own_cid != state.cid:
            await asyncio.to_thread(self._begin_again, state.seq)
            raise RenumberedError(f"another operation at number {state.seq} now")

    async def _fetch_page(self, state: operation_log.FeedState) -> list[ExportLine]:
        by_time = state.seq is None and state.time_ms is not None
        # From a millisecond before: entries of one time may lie on both sides of the
        # border, and what comes twice is seen.
        time_ms = state.time_ms or 0
        time_ms -= time_ms != self._whole_ms
        after = quote(format_time(time_ms)) if by_time else state.seq or 0
        try:
            return await self._get(f"&after={after}")
        except BadResponseError as error:
            # A directory that numbers nothing takes 0 for a time that is none.
            if error.status != _BAD_REQUEST or by_time or state.seq is not None:
                raise
            return await self._get("")

    async def _get(self, query: str, count: int | None = None) -> list[ExportLine]:
        count = self._page if count is None else count
        url = f"{self._mirror.directory}/export?count={count}{query}"
        fetched = await self._fetcher.get(
            url, max_bytes=MAX_PAGE_BYTES, timeout=_PAGE_TIMEOUT_S
        )
        if fetched.status != 200:
            raise BadResponseError(f"{url} answered {fetched.status}", fetched.status)
        return await asyncio.to_thread(read_page, fetched.body)

    # In a thread, each with a connection of its own.

    async def _take_in(self, lines: list[ExportLine]) -> TakenIn:
        def work() -> TakenIn:
            with self._pool.connection() as conn:
                return self._mirror.take_in(conn, lines, int(self._now() * 1_000))

        taken = await asyncio.to_thread(work)
        for did, why in taken.doubts.items():
            log.warning("plc_operation_refused", extra={"did": did, "why": why})
        for cid in taken.tolerated:
            log.info("plc_operation_tolerated", extra={"cid": cid})
        return taken

    def _state(self) -> operation_log.FeedState:
        with self._pool.connection() as conn:
            return operation_log.load_feed(conn, self._mirror.directory)

    def _begin_again(self, seq: int) -> None:
        with self._pool.connection() as conn:
            operation_log.begin_again(conn, self._mirror.directory, seq)

    def _note_caught_up(self, at: float) -> None:
        with self._pool.connection() as conn:
            operation_log.note_caught_up(conn, self._mirror.directory, at)

    def _claim_doubts(self, limit: int) -> list[Did]:
        with self._pool.connection() as conn:
            return operation_log.claim_doubts(conn, limit)

    def _take_log(self, did: Did, value: object) -> None:
        with self._pool.connection() as conn:
            audited = self._mirror.take_log(conn, did, value, int(self._now() * 1_000))
        for cid in audited.tolerated:
            log.info("plc_operation_tolerated", extra={"cid": cid})

    def _note_doubt(self, did: Did, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        with self._pool.connection() as conn:
            operation_log.note_doubts(conn, {did: why})

    def _forget_unknown(self, did: Did) -> None:
        """The directory does not know it; unless we proved it, it was never there."""
        with self._pool.connection() as conn:
            if not operation_log.load_logs(conn, [did]):
                operation_log.end_doubts(conn, [did])

    async def _note_error(self, error: BaseException) -> None:
        def work() -> None:
            with self._pool.connection() as conn:
                operation_log.note_feed_error(conn, self._mirror.directory, str(error))

        with contextlib.suppress(psycopg.OperationalError):
            await asyncio.to_thread(work)


async def _next(stream: Any) -> bytes:
    frame: bytes = await anext(stream)
    return frame


def _pause(failures: int, error: BaseException) -> float:
    if isinstance(error, RateLimitedError):
        return error.retry_after
    ceiling = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30))
    return ceiling * random.uniform(0.5, 1.0)
