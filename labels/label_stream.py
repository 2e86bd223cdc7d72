"""Subscriptions to labelers (com.atproto.label.subscribeLabels).

Each message is verified with the labeler's `#atproto_label` key, and stored together
with the position of the stream. A labeler that is away or sends garbage delays no
other.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import structlog

from labels import label_rows
from labels.signed_label import LabelError, LabelFault, SignedLabel, read_label
from network.errors import IdentityError, NetworkError
from network.http.client import Fetcher
from network.identity.resolver import IdentityResolver, parse_key
from network.streams.stream_client import StreamClient
from network.streams.stream_events import Connected, StreamEvent, StreamTimes
from protocol.errors import ProtocolError
from protocol.events.frames import ERROR_OP, MESSAGE_OP, decode_frame
from protocol.identity.did_document import LABELER_SERVICE, DidDocument
from protocol.identity.keys import PublicKey
from protocol.limits import MAX_INT
from storage.postgres.pool import Conn, Pool
from storage.postgres.transaction import retry_conflicts, whole_transaction
from storage.records.interning import Interner

log = structlog.get_logger(__name__)

SUBSCRIBE_LABELS: Final = "com.atproto.label.subscribeLabels"
LABELER_TYPE: Final = "AtprotoLabeler"
LABELS: Final = "#labels"
FUTURE_CURSOR: Final = "FutureCursor"
_MAX_FAILURES: Final = 5
"""Failures in a row after which the labeler's address is resolved again."""
_QUEUED: Final = 16
"""Frames that wait for the database; each has at most 5 MB."""
_TIMES: Final = StreamTimes(first=2.0)


class NoLabelerError(IdentityError):
    """The DID document names no labeler service, or no key of labels."""


class RestartedError(NetworkError):
    """The stream's numbers have begun anew, below our position."""


_TRANSIENT: Final = (NetworkError, IdentityError, ProtocolError, psycopg.Error)


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded message: its number and its labels, not checked yet."""

    seq: int
    labels: Sequence[Any]


class LabelStream:
    """The subscription to one labeler, until it is cancelled."""

    def __init__(
        self,
        did: str,
        fetcher: Fetcher,
        resolver: IdentityResolver,
        pool: Pool,
        interner: Interner,
        *,
        times: StreamTimes = _TIMES,
    ) -> None:
        self._did = did
        self._fetcher = fetcher
        self._resolver = resolver
        self._pool = pool
        self._interner = interner
        self._times = times
        self._src = 0
        self._position = 0
        self._is_current = False
        self._connected = asyncio.Event()

    async def run(self) -> None:
        """Follow the stream; reconnect after failures, later and later."""
        failures = 0
        while True:
            self._is_current = False
            try:
                await self._follow(refresh=failures > 0)
            except _TRANSIENT as error:
                log.warning("labeler_failed", labeler=self._did, why=str(error))
                await self._note(str(error))
            failures = 1 if self._is_current else failures + 1
            await asyncio.sleep(self._times.pause(failures, random.random()))

    async def _follow(self, *, refresh: bool) -> None:
        document = await self._resolver.resolve_did(self._did, refresh=refresh)
        url = _stream_url(document)
        await self._store(lambda conn: label_rows.open_stream(conn, self._src))
        async with (
            StreamClient(
                self._fetcher,
                url,
                lambda: self._position,
                on_event=self._see,
                max_failures=_MAX_FAILURES,
                times=self._times,
            ) as stream,
            _queued(stream) as queue,
            _beside(self._note_connects()),
        ):
            while True:
                items = [await queue.get()]
                while not queue.empty():
                    items.append(queue.get_nowait())
                await self.take([item for item in items if isinstance(item, bytes)])
                if isinstance(items[-1], Exception):
                    raise items[-1]

    def _see(self, event: StreamEvent) -> None:
        if isinstance(event, Connected):
            log.info("labeler_connected", labeler=self._did, cursor=event.cursor)
            self._connected.set()

    async def _note_connects(self) -> None:
        """Forget errors once a connection stands, also of a labeler that is quiet."""

        def note() -> None:
            with self._pool.connection() as conn:
                label_rows.note_connected(conn, self._src)

        while True:
            await self._connected.wait()
            self._connected.clear()
            with contextlib.suppress(psycopg.Error):
                await asyncio.to_thread(note)

    async def take(self, frames: Sequence[bytes]) -> None:
        """Verify and store the labels of frames.

        Raises NetworkError if a signature fails and the key cannot be refreshed: the
        frames are read again then. Raises RestartedError, and begins anew.
        """
        faults: Counter[LabelFault] = Counter()
        try:
            messages = [m for raw in frames if (m := _read_frame(raw, faults))]
        except RestartedError:
            await self._store(lambda conn: label_rows.restart_stream(conn, self._src))
            raise
        found = _read_labels(self._did, messages, faults)
        valid = await self._verify(found)
        faults[LabelFault.BAD_SIGNATURE] += len(found) - len(valid)
        seq = max((message.seq for message in messages), default=self._position)
        await asyncio.to_thread(self._save, valid, seq, +faults)
        self._position = max(self._position, seq)
        self._is_current = self._is_current or bool(messages)

    async def _verify(self, found: list[SignedLabel]) -> list[SignedLabel]:
        """Return the labels with a valid signature; the key is refreshed once."""
        if not found:
            return []
        key = await self._find_key(refresh=False)
        good, rest = await asyncio.to_thread(_split_signed, key, found)
        if rest:
            # The key may have been declared or rotated since it was cached.
            fresh = await self._find_key(refresh=True)
            if fresh != key:
                good += (await asyncio.to_thread(_split_signed, fresh, rest))[0]
        return good

    async def _find_key(self, *, refresh: bool) -> PublicKey | None:
        document = await self._resolver.resolve_did(
            self._did, refresh=refresh, insist=refresh
        )
        return parse_key(document.label_key) if document.label_key else None

    @retry_conflicts
    def _save(
        self, found: Sequence[SignedLabel], seq: int, faults: Counter[LabelFault]
    ) -> None:
        rows = label_rows.rows_of(self._interner, found)
        src = self._interner.actors([self._did])[self._did]
        with self._pool.connection() as conn, whole_transaction(conn):
            label_rows.save_labels(conn, rows)
            label_rows.save_progress(conn, src, seq, rows)
            label_rows.count_faults(conn, src, faults)

    async def _note(self, error: str) -> None:
        with contextlib.suppress(psycopg.Error):
            await self._store(lambda c: label_rows.note_error(c, self._src, error))

    async def _store(self, work: Callable[[Conn], None]) -> None:
        """Write to the stream's row, and load the position."""

        def store() -> None:
            self._src = self._interner.actors([self._did])[self._did]
            with self._pool.connection() as conn:
                work(conn)
                self._position = label_rows.load_position(conn, self._src)

        await asyncio.to_thread(store)


async def follow_labelers(streams: Sequence[LabelStream], stop: asyncio.Event) -> None:
    """Follow all streams until `stop`."""
    following = [asyncio.create_task(stream.run()) for stream in streams]
    waiting = asyncio.create_task(stop.wait())
    try:
        # A stream ends only by an error that no retry will mend.
        done, _ = await asyncio.wait(
            [waiting, *following], return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()
    finally:
        for task in (waiting, *following):
            task.cancel()
        await asyncio.gather(waiting, *following, return_exceptions=True)


@contextlib.asynccontextmanager
async def _queued(
    stream: StreamClient,
) -> AsyncIterator[asyncio.Queue[bytes | Exception]]:
    """Read a stream ahead, a few frames at most; the error that ends it is last."""
    queue: asyncio.Queue[bytes | Exception] = asyncio.Queue(_QUEUED)

    async def read() -> None:
        try:
            async for frame in stream:
                await queue.put(frame)
        except Exception as error:
            await queue.put(error)

    reader = asyncio.create_task(read())
    try:
        yield queue
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine until the end of the context."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _read_frame(raw: bytes, faults: Counter[LabelFault]) -> Message | None:
    """Return the message of a frame; None for others. Raises RestartedError."""
    try:
        op, t, body = decode_frame(raw)
    except ProtocolError:
        faults[LabelFault.BAD_FRAME] += 1
        return None
    if op == ERROR_OP and body["error"] == FUTURE_CURSOR:
        raise RestartedError("the stream's numbers have begun anew")
    if op != MESSAGE_OP or t != LABELS:
        return None
    seq, labels = body.get("seq"), body.get("labels")
    is_number = type(seq) is int and 0 <= seq <= MAX_INT
    if not is_number or type(labels) is not list:
        faults[LabelFault.BAD_FRAME] += 1
        return None
    return Message(seq, labels)


def _read_labels(
    did: str, messages: Sequence[Message], faults: Counter[LabelFault]
) -> list[SignedLabel]:
    found = []
    for message in messages:
        for value in message.labels:
            try:
                found.append(read_label(value, did))
            except LabelError as error:
                faults[error.fault] += 1
    return found


def _split_signed(
    key: PublicKey | None, labels: Sequence[SignedLabel]
) -> tuple[list[SignedLabel], list[SignedLabel]]:
    """Return the labels that the key has signed, and the others."""
    good: list[SignedLabel] = []
    rest: list[SignedLabel] = []
    for label in labels:
        signed = key is not None and label.is_signed_by(key)
        (good if signed else rest).append(label)
    return good, rest


def _stream_url(document: DidDocument) -> str:
    service = document.service(LABELER_SERVICE, LABELER_TYPE)
    if service is None:
        raise NoLabelerError(f"{document.did} declares no {LABELER_TYPE} service")
    scheme, _, rest = service.endpoint.partition("://")
    socket = "wss" if scheme == "https" else "ws"
    return f"{socket}://{rest.rstrip('/')}/xrpc/{SUBSCRIBE_LABELS}"
