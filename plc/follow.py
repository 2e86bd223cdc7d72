"""Following another directory: pages of its export, then its stream.

One page or burst is in memory at a time. The export is polled while a stream is open,
since a quiet stream does not prove that nothing happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar
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
from network.streams.stream_client import StreamClient, StreamRefusedError
from plc import operation_log
from plc.mirror import (
    MAX_LINE_BYTES,
    MAX_PAGE_BYTES,
    BadExportError,
    ExportLine,
    IngestResult,
    Mirror,
    parse_line,
    read_page,
)
from plc.operation import format_time
from protocol.errors import ProtocolError
from protocol.syntax import Did
from storage.postgres.pool import Conn, Pool

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE: Final = 1_000
MAX_LOG_BYTES: Final = 16_000_000
_BURST: Final = 500
_BURST_WAIT_S: Final = 0.1
_PAGE_TIMEOUT_S: Final = 120.0
_RETRIES_AT_ONCE: Final = 20
_STABLE_S: Final = 30.0
_RECENT_S: Final = 60.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 300.0
_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404

_FAULTS: Final = (NetworkError, ProtocolError, psycopg.OperationalError)


class UnpageableExportError(BadExportError):
    """An export by time with more operations of one time than a page holds."""


class TruncatedExportError(BadExportError):
    """An export that ends before our position."""


class RenumberedError(BadExportError):
    """An export with another operation at our position."""


class Follower:
    """Keeps a Mirror up to date with its directory.

    `rate` is requests a second, `poll_s` the interval of polling the export; `stream`
    reads its stream as well.
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
        """Follow until `stop`; errors are recorded and retried with back-off."""
        failures = 0
        while not stop.is_set():
            wait = self._poll_s
            began = time.monotonic()
            try:
                # First, since too many unproven DIDs block the export.
                await self.retry_unproven()
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
                with contextlib.suppress(psycopg.OperationalError):
                    await self._run(
                        operation_log.note_feed_error,
                        self._mirror.directory,
                        str(error),
                    )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await stop.wait()

    async def catch_up(self, stop: asyncio.Event | None = None) -> int:
        """Read pages until none is left; return the number of new operations.

        Raises NetworkError or BadExportError.
        """
        new = 0
        await self._check_position()
        while stop is None or not stop.is_set():
            asked_at = self._now()
            state = await self._load_state()
            lines = await self._fetch_page(state)
            taken = await self._ingest(lines)
            new += taken.new
            if len(lines) < self._page and self._is_end(state, lines, asked_at):
                await self._run(
                    operation_log.note_caught_up, self._mirror.directory, asked_at
                )
                break
            if lines[0].seq is None and lines[-1].created_ms == lines[0].created_ms:
                self._check_single_time(lines)
        return new

    def _is_end(
        self, state: operation_log.FeedState, lines: list[ExportLine], asked_at: float
    ) -> bool:
        """Return True if a page that is not full ends the export.

        A directory may return fewer lines than requested, so an old last line is no
        end.
        """
        if not lines:
            return True
        last = lines[-1]
        if last.seq is None and last.created_ms <= (state.time_ms or 0):
            return True
        return last.created_ms >= (asked_at - _RECENT_S) * 1_000

    def _check_single_time(self, lines: list[ExportLine]) -> None:
        time_ms = lines[0].created_ms
        if len(lines) == self._page:
            raise UnpageableExportError(
                f"at least {self._page} operations of {format_time(time_ms)}"
            )
        # The directory sends longer pages instead of splitting a time.
        self._whole_ms = time_ms

    async def retry_unproven(self, limit: int = _RETRIES_AT_ONCE) -> int:
        """Fetch whole logs of unproven DIDs that are due; return the number proven."""
        proven = 0
        for did in await self._run(operation_log.claim_unproven, limit):
            url = f"{self._mirror.directory}/{did}/log/audit"
            try:
                fetched = await self._fetcher.get(url, max_bytes=MAX_LOG_BYTES)
                if fetched.status == _NOT_FOUND:
                    await self._run(_forget_unknown, did)
                    continue
                if fetched.status != 200:
                    raise BadResponseError(f"{url}: {fetched.status}", fetched.status)
                value = fetched.json()
                audited = await self._run(
                    self._mirror.replace_log, did, value, int(self._now() * 1_000)
                )
            except (ProtocolError, BadResponseError, TooLargeError) as error:
                why = f"{type(error).__name__}: {error}"
                await self._run(operation_log.mark_unproven, {did: why})
                continue
            _log_tolerated(audited.tolerated)
            proven += 1
        return proven

    async def _follow_stream(self, stop: asyncio.Event) -> None:
        """Read the stream until it ends."""
        seq = (await self._load_state()).seq
        if seq is None:
            return  # an export by time has no stream
        url = f"{self._mirror.directory}/export/stream"
        async with StreamClient(
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
        self, stream: Any, reading: asyncio.Task[bytes], stopping: asyncio.Task[Any]
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
                    await self._ingest(burst)
                    burst = []
                if time.monotonic() >= confirm_at:
                    await self.catch_up()
                    await self.retry_unproven()
                    confirm_at = time.monotonic() + self._poll_s
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _check_position(self) -> None:
        """Check that the export still has our operation at our position.

        A renumbered export is read again from the start; known operations are
        recognized.
        """
        state = await self._load_state()
        if not state.seq:
            return
        lines = await self._get(f"&after={state.seq - 1}", count=1)
        # The directory was reset, or a former number was too high.
        if not lines:
            raise TruncatedExportError(f"export ends before our position {state.seq}")
        line = lines[0]
        if line.seq == state.seq and state.cid and line.own_cid != state.cid:
            await self._run(operation_log.reset_feed, self._mirror.directory, state.seq)
            raise RenumberedError(f"another operation has seq {state.seq} now")

    async def _fetch_page(self, state: operation_log.FeedState) -> list[ExportLine]:
        by_time = state.seq is None and state.time_ms is not None
        # Start a millisecond earlier: entries of one time may be on both pages, and
        # repeated lines change nothing.
        time_ms = state.time_ms or 0
        time_ms -= time_ms != self._whole_ms
        after = quote(format_time(time_ms)) if by_time else state.seq or 0
        try:
            return await self._get(f"&after={after}")
        except BadResponseError as error:
            # A directory without numbers refuses 0, which is not a time.
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
            raise BadResponseError(f"{url}: {fetched.status}", fetched.status)
        return await asyncio.to_thread(read_page, fetched.body)

    async def _ingest(self, lines: list[ExportLine]) -> IngestResult:
        taken = await self._run(self._mirror.ingest, lines, int(self._now() * 1_000))
        for did, why in taken.unproven.items():
            log.warning("plc_operation_refused", extra={"did": did, "why": why})
        _log_tolerated(taken.tolerated)
        return taken

    async def _load_state(self) -> operation_log.FeedState:
        return await self._run(operation_log.load_feed, self._mirror.directory)

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work` in a thread, with a connection of the pool."""

        def run() -> T:
            with self._pool.connection() as conn:
                return work(conn, *args)

        return await asyncio.to_thread(run)


def _log_tolerated(cids: Iterable[str]) -> None:
    for cid in cids:
        log.info("plc_operation_tolerated", extra={"cid": cid})


def _forget_unknown(conn: Conn, did: Did) -> None:
    """Clear an unproven DID that the directory does not know."""
    if not operation_log.load_logs(conn, [did]):
        operation_log.clear_unproven(conn, [did])


async def _next(stream: Any) -> bytes:
    frame: bytes = await anext(stream)
    return frame


def _pause(failures: int, error: BaseException) -> float:
    if isinstance(error, RateLimitedError):
        return error.retry_after
    ceiling = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30))
    return ceiling * random.uniform(0.5, 1.0)
