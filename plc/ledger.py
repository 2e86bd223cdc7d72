"""The directory's operations in Postgres.

Two locks, always in this order. The lock of a DID is held from reading its log to the
commit, which serializes its operations. The lock of the sequence is held from drawing a
number to the commit. So numbers become visible in order, and no paging reader misses
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from plc.operation import LogEntry, check_next_operation, check_quota, format_time
from plc.operation_draft import check_submission
from plc.operation_format import (
    Operation,
    Tombstone,
    operation_bytes,
    operation_cid,
    operation_json,
    parse_operation,
)
from protocol.data.cbor import decode
from protocol.data.cid import cid_for, cid_to_text
from protocol.syntax import Did
from storage.postgres.pool import Conn

# Namespaces of advisory locks.
_DID_LOCK: Final = 0x504C43
_SEQUENCE_LOCK: Final = 0x504C44

LOCK_TIMEOUT_MS: Final = 5_000
_MAX_NUMBER_DIGITS: Final = 18

_COLUMNS: Final = "seq, did, value, nullified, created_ms"


@dataclass(frozen=True, slots=True)
class SequencedEntry:
    """A log entry with its sequence number in the export."""

    seq: int
    entry: LogEntry

    def to_json(self) -> dict[str, object]:
        """Return the entry as in `/export?after=<seq>` and `/export/stream`."""
        return {
            "type": "sequenced_op",
            "seq": self.seq,
            "did": self.entry.did,
            "operation": operation_json(self.entry.operation),
            "cid": self.entry.cid,
            "createdAt": format_time(self.entry.created_ms),
        }


def parse_number(text: str) -> int | None:
    """Return a sequence number from a client, or None if it is not one."""
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_NUMBER_DIGITS:
        return None
    return int(text)


def accept(
    conn: Conn, did: Did, operation: Operation | Tombstone, now_ms: int
) -> SequencedEntry:
    """Accept an operation in its own transaction.

    Raises as `check_submission`, `check_next_operation` and `check_quota`, and
    psycopg.errors.LockNotAvailable if the DID stays locked. An operation that is
    already the last of its log changes nothing, so clients may retry.
    """
    check_submission(operation)
    with conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        conn.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_DID_LOCK, did))
        log = _read(conn, "did = %s AND NOT nullified ORDER BY seq", (did,))
        if log and log[-1].entry.cid == operation_cid(operation):
            return log[-1]
        history = [row.entry for row in log]
        # Times rise even if the clock is set back.
        created_ms = max([now_ms, *(entry.created_ms + 1 for entry in history[-1:])])
        verdict = check_next_operation(did, history, operation, created_ms)
        if not verdict.nullified:
            check_quota(history, created_ms)
        undone = set(verdict.nullified)
        _nullify(conn, [row.seq for row in log if row.entry.cid in undone])
        conn.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_SEQUENCE_LOCK,))
        row = conn.execute(
            "INSERT INTO operation (did, value, created_ms)"
            " VALUES (%s, %s, %s) RETURNING seq",
            (did, operation_bytes(operation), created_ms),
        ).fetchone()
    assert row is not None
    entry = LogEntry(did, operation, verdict.cid, False, created_ms)
    return SequencedEntry(row[0], entry)


def read_log(conn: Conn, did: str, *, nullified: bool = False) -> list[LogEntry]:
    """Return the log of a DID in order of acceptance."""
    condition = "did = %s" if nullified else "did = %s AND NOT nullified"
    return [row.entry for row in _read(conn, f"{condition} ORDER BY seq", (did,))]


def export_after_seq(conn: Conn, after: int, count: int) -> list[SequencedEntry]:
    """Return up to `count` entries of all DIDs above a sequence number."""
    return _read(conn, "seq > %s ORDER BY seq LIMIT %s", (after, count))


def export_after_time(conn: Conn, after_ms: int | None, count: int) -> list[LogEntry]:
    """Return about `count` entries of all DIDs accepted after a time, in order of time.

    Entries of one time are never split, since the next page starts after it.
    """
    rows = _read(
        conn,
        "created_ms > %s ORDER BY created_ms FETCH FIRST %s ROWS WITH TIES",
        (-1 if after_ms is None else after_ms, count),
    )
    rows.sort(key=lambda row: (row.entry.created_ms, row.seq))
    return [row.entry for row in rows]


def newest_seq(conn: Conn) -> int:
    """Return the highest committed sequence number, or 0."""
    row = conn.execute("SELECT coalesce(max(seq), 0) FROM operation").fetchone()
    assert row is not None
    return int(row[0])


def _nullify(conn: Conn, numbers: Sequence[int]) -> None:
    if numbers:
        conn.execute(
            "UPDATE operation SET nullified = true WHERE seq = ANY(%s)",
            (list(numbers),),
        )


def _read(conn: Conn, condition: str, values: Iterable[object]) -> list[SequencedEntry]:
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM operation WHERE {condition}", tuple(values)
    )
    return [
        SequencedEntry(
            seq,
            LogEntry(
                did=Did(did),
                operation=parse_operation(decode(value)),
                cid=cid_to_text(cid_for(value)),
                nullified=nullified,
                created_ms=created_ms,
            ),
        )
        for seq, did, value, nullified, created_ms in rows
    ]
