"""Log of rebroadcast events, in the order of our own sequence numbers.

`append` stores frames in the transaction of their effects, without numbers.
Transactions of several shards end in any order, so a number drawn in one could become
visible after a higher one. `number_events` therefore numbers committed frames, one
caller at a time: what a reader sees is complete.

Frames are compressed in blocks. Numbers and times belong to blocks; their events follow
by one number each, and by a microsecond for each Jetstream message. A number that was
seen is never used again.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Final, NamedTuple

import zstandard

from storage.postgres.copy import copy_packed
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn
from storage.states import STATUS_ACTIVE

_BLOCK_EVENTS: Final = 500
_BLOCK_BYTES: Final = 256 * 1024
_NUMBERED_AT_ONCE: Final = 1_000
_PRUNED_AT_ONCE: Final = 100
# Frames may have 5 MB, so a read is bounded in bytes.
_READ_BYTES: Final = 1024 * 1024
_LEVEL: Final = 1

# Before each frame: its length, and above it how many messages it has beyond one.
_HEAD: Final = struct.Struct(">I")
_LENGTH_BITS: Final = 23
_LENGTH_MASK: Final = (1 << _LENGTH_BITS) - 1
_MOST_MESSAGES: Final = 1 << 32 - _LENGTH_BITS
_ROW: Final = struct.Struct(">hiiiiiii")
_COLUMNS: Final = ("count", "span", "size", "frames")
_contexts = threading.local()


class LoggedEvent(NamedTuple):
    """One event. `frame` has the number it came with.

    `time_us` is the time of numbering (Unix microseconds), rising, with room for each
    Jetstream message.
    """

    seq: int
    time_us: int
    frame: bytes


class LogBounds(NamedTuple):
    """Bounds of the log; `size` is in stored bytes.

    `oldest` is the lowest kept number, or the next one if none is kept.
    """

    oldest: int
    newest: int
    size: int


def append(conn: Conn, frames: Iterable[bytes], messages: Iterable[int] = ()) -> None:
    """Store frames, in order. Does not commit.

    `messages` is the number of Jetstream messages of each frame, one by default. Call
    it while the repos of the frames are locked: events of one account keep the order of
    the calls.
    """
    rows = []
    counts = chain(messages, repeat(1))
    for block in _blocks(frames):
        span = 0
        parts: list[bytes] = []
        for frame, told in zip(block, counts, strict=False):
            told = min(max(told, 1), _MOST_MESSAGES)
            parts += _HEAD.pack(told - 1 << _LENGTH_BITS | len(frame)), frame
            span += told
        packed = _compressor().compress(b"".join(parts))
        size = len(packed)
        row = _ROW.pack(4, 4, len(block), 4, span, 4, size, size)
        rows.append(row + packed)
    copy_packed(conn, "event_block", _COLUMNS, rows)


def number_events(conn: Conn, now_us: int) -> int:
    """Number up to 1,000 committed blocks; return the number of events. Commits.

    Call it again while it returns more than 0. Any process may call it at any time.
    """
    with conn.transaction():
        if not _waiting(conn):
            return 0
        seq, time_us = _lock_counter(conn)
        # Read while the counter is locked: earlier callers numbered the rest.
        blocks = conn.execute(
            "SELECT id, count, span FROM event_block WHERE last_seq IS NULL"
            " ORDER BY id LIMIT %s",
            (_NUMBERED_AT_ONCE,),
        ).fetchall()
        if not blocks:
            return 0
        seqs, times = [], []
        for _, count, span in blocks:
            seq += count
            times.append(max(time_us + 1, now_us))
            time_us = times[-1] + span - 1
            seqs.append(seq)
        conn.execute(
            """
            UPDATE event_block b SET last_seq = d.seq, time_us = d.time_us
            FROM unnest(%s::int8[], %s::int8[], %s::int8[]) AS d (id, seq, time_us)
            WHERE b.id = d.id
            """,
            ([block[0] for block in blocks], seqs, times),
        )
        conn.execute(
            "UPDATE event_counter SET last_seq = %s, last_time_us = %s", (seq, time_us)
        )
    return sum(block[1] for block in blocks)


def events_after(conn: Conn, seq: int, limit: int) -> list[LoggedEvent]:
    """Return the next events above `seq`.

    At least `limit` if there are as many, or 1 MiB of them, and the rest of the last
    block.
    """
    events: list[LoggedEvent] = []
    size = 0
    while len(events) < limit and size < _READ_BYTES:
        row = conn.execute(
            "SELECT last_seq, count, time_us, frames FROM event_block"
            " WHERE last_seq > %s ORDER BY last_seq LIMIT 1",
            (seq,),
            binary=True,
        ).fetchone()
        if row is None:
            break
        last, count, time_us, packed = row
        for number, (told, frame) in enumerate(_unpack(packed), last - count + 1):
            if number > seq:
                events.append(LoggedEvent(number, time_us, frame))
                size += len(frame)
            time_us += told
        seq = last
    return events


def find_seq(conn: Conn, time_us: int) -> int:
    """Return the number to read after for all events from `time_us` on.

    Earlier messages of the first event may be included.
    """
    row = conn.execute(
        "SELECT last_seq - count, time_us, frames FROM event_block"
        " WHERE time_us <= %s ORDER BY time_us DESC LIMIT 1",
        (time_us,),
        binary=True,
    ).fetchone()
    if row is None:
        return 0
    seq, end, packed = row
    for told, _ in _unpack(packed):
        end += told
        if end > time_us:
            break
        seq += 1
    return int(seq)


def load_bounds(conn: Conn) -> LogBounds:
    row = conn.execute("SELECT coalesce(sum(size), 0) FROM event_block").fetchone()
    assert row is not None
    newest, _ = load_tail(conn)
    return LogBounds(load_oldest(conn), newest, int(row[0]))


def load_oldest(conn: Conn) -> int:
    """Return the lowest kept number, or the next one if none is kept."""
    return fetch_int(
        conn,
        """
        SELECT coalesce(
            (SELECT last_seq - count + 1 FROM event_block
             WHERE last_seq IS NOT NULL ORDER BY last_seq LIMIT 1),
            (SELECT last_seq + 1 FROM event_counter),
            1
        )
        """,
    )


def load_tail(conn: Conn) -> tuple[int, int]:
    """Return the last number and its time in microseconds; zeros before the first."""
    row = conn.execute("SELECT last_seq, last_time_us FROM event_counter").fetchone()
    return (0, 0) if row is None else (row[0], row[1])


def find_hidden(conn: Conn, dids: Iterable[str]) -> dict[str, bool]:
    """Return the hidden ones of these accounts -> True if taken down by us."""
    rows = conn.execute(
        "SELECT did, takedown IS NOT NULL FROM actor WHERE did = ANY(%s)"
        " AND (takedown IS NOT NULL OR upstream_status <> %s)",
        (list(dids), STATUS_ACTIVE),
    )
    return dict(rows.fetchall())


def prune(conn: Conn, *, before_us: int, max_bytes: int) -> Iterator[int]:
    """Delete events numbered before `before_us`, and the oldest beyond `max_bytes`.
    Commits.

    Yields the number of deleted events after each step of 100 blocks (25 MB).
    """
    while True:
        with conn.transaction():
            gone = conn.execute(
                _PRUNE, (max_bytes, before_us, _PRUNED_AT_ONCE)
            ).fetchall()
        if gone:
            yield sum(row[0] for row in gone)
        if len(gone) < _PRUNED_AT_ONCE:
            return


_PRUNE: Final = """
    DELETE FROM event_block WHERE id IN (
        SELECT id FROM (
            SELECT id, last_seq, time_us,
                sum(size) OVER (ORDER BY last_seq DESC) AS total
            FROM event_block WHERE last_seq IS NOT NULL
        ) AS sized
        WHERE total > %s OR time_us < %s
        ORDER BY last_seq LIMIT %s
    ) RETURNING count
"""


def _lock_counter(conn: Conn) -> tuple[int, int]:
    row = conn.execute(
        "INSERT INTO event_counter (last_seq, last_time_us) VALUES (0, 0)"
        " ON CONFLICT (single) DO UPDATE SET last_seq = event_counter.last_seq"
        " RETURNING last_seq, last_time_us"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def _waiting(conn: Conn) -> bool:
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM event_block WHERE last_seq IS NULL)"
    ).fetchone()
    return row is not None and bool(row[0])


def _blocks(frames: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    block: list[bytes] = []
    size = 0
    for frame in frames:
        if block and (len(block) >= _BLOCK_EVENTS or size + len(frame) > _BLOCK_BYTES):
            yield block
            block, size = [], 0
        block.append(frame)
        size += len(frame)
    if block:
        yield block


def _unpack(packed: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number of messages of each frame, and the frame."""
    data: bytes = zstandard.ZstdDecompressor().decompress(packed)
    start = 0
    while start < len(data):
        (head,) = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        end = start + (head & _LENGTH_MASK)
        yield (head >> _LENGTH_BITS) + 1, data[start:end]
        start = end


def _compressor() -> zstandard.ZstdCompressor:
    # A context must not be shared by threads.
    compressor = getattr(_contexts, "compressor", None)
    if compressor is None:
        compressor = _contexts.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    return compressor
