"""Log of changed addresses, for exports that follow the index.

Each transaction logs which records, accounts, counts and labels it changed, not their
content: a reader fetches the current rows. Nothing is logged while no export exists.

Blocks get their numbers from a reader, after commit: what it has read is complete,
although transactions of several shards end in any order.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import zstandard

from storage.collections import NO_COLLECTION, NO_RKEY
from storage.postgres.fetch import fetch_int, fetch_value
from storage.postgres.pool import Conn
from storage.postgres.transaction import whole_transaction

CREATED: Final = 1
"""A record was written."""
CHANGED: Final = 2
"""A record was removed or replaced."""
ACCOUNT: Final = 4
"""An account may be visible or hidden now."""
COUNTS: Final = 8
"""Counts of a record or an account changed."""
LABELS: Final = 16
"""Labels of a record or an account changed."""
NAME: Final = 32
"""The handle of an account changed."""

ENTRY: Final = np.dtype(
    [("actor", ">i4"), ("collection", ">i4"), ("rkey", ">i8"), ("op", "u1")]
)
_ENTRY: Final = struct.Struct(">iiqB")
# The start of a row that record_rows packed.
_PACKED: Final = np.dtype(
    [
        ("columns", ">i2"),
        ("actor_size", ">i4"),
        ("actor", ">i4"),
        ("collection_size", ">i4"),
        ("collection", ">i4"),
        ("rkey_size", ">i4"),
        ("rkey", ">i8"),
    ]
)
_BLOCK_ENTRIES: Final = 20_000
_LEVEL: Final = 1
_MOST_IDLE_DAYS: Final = 7
_MOST_BLOCKS: Final = 5_000_000
_NUMBERING: Final = 0x6368_616E_6765  # "change"
_contexts = threading.local()

Entries = npt.NDArray[np.void]


def log_records(
    conn: Conn, packed: Sequence[bytes], replaced: Sequence[tuple[int, int, int]]
) -> None:
    """Log written records (rows of record_rows.pack_records) and removed ones.

    Does not commit. Call it after the rows were written: an export that begins waits
    for transactions that have written.
    """
    if not (packed or replaced) or not is_followed(conn):
        return
    size = _PACKED.itemsize
    heads = np.frombuffer(b"".join([row[:size] for row in packed]), _PACKED)
    entries = np.empty(len(packed) + len(replaced), ENTRY)
    for name in ("actor", "collection", "rkey"):
        entries[name][: len(packed)] = heads[name]
    entries["op"][: len(packed)] = CREATED
    entries[len(packed) :] = _entries(replaced, CHANGED)
    _append(conn, entries)


def log_addresses(
    conn: Conn, addresses: Iterable[tuple[int, int, int]], op: int
) -> None:
    """Log other changes of records, or of accounts. Does not commit."""
    changed = list(addresses)
    if changed and is_followed(conn):
        _append(conn, _entries(changed, op))


def log_accounts(conn: Conn, actors: Iterable[int], op: int = ACCOUNT) -> None:
    """Log changes of accounts. Does not commit."""
    log_addresses(conn, [(actor, NO_COLLECTION, NO_RKEY) for actor in actors], op)


def is_followed(conn: Conn) -> bool:
    """Return True if an export reads the log."""
    return bool(fetch_value(conn, "SELECT EXISTS (SELECT FROM export)"))


def _entries(addresses: Sequence[tuple[int, int, int]], op: int) -> Entries:
    packed = b"".join([_ENTRY.pack(*address, op) for address in addresses])
    return np.frombuffer(packed, ENTRY)


def _append(conn: Conn, entries: Entries) -> None:
    for start in range(0, len(entries), _BLOCK_ENTRIES):
        block = entries[start : start + _BLOCK_ENTRIES]
        conn.execute(
            "INSERT INTO change_block (count, changes) VALUES (%s, %s)",
            (len(block), _compressor().compress(block.tobytes())),
        )


def _compressor() -> zstandard.ZstdCompressor:
    # A context must not be shared by threads.
    compressor = getattr(_contexts, "compressor", None)
    if compressor is None:
        compressor = _contexts.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    return compressor


@dataclass(frozen=True, slots=True)
class Reader:
    """An export by its id, and the number up to which its folder has all changes."""

    id: int
    seq: int


def find_reader(conn: Conn, token: str) -> Reader | None:
    """Return the export with a token; None if the index does not know it."""
    row = conn.execute(
        "UPDATE export SET seen_at = now() WHERE token = %s RETURNING id, seq", (token,)
    ).fetchone()
    return Reader(*row) if row else None


def add_reader(conn: Conn, token: str, *, patience_s: float = 600.0) -> Reader:
    """Register an export and wait until every transaction logs for it. Commits.

    Raises TimeoutError if older transactions do not end in time.
    """
    with whole_transaction(conn):
        row = conn.execute(
            "INSERT INTO export (token, seq) SELECT %s,"
            " coalesce((SELECT last_seq FROM change_counter), 0) RETURNING id, seq",
            (token,),
        ).fetchone()
    assert row is not None
    with whole_transaction(conn):
        horizon = fetch_int(
            conn, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8"
        )
    deadline = time.monotonic() + patience_s
    while True:
        with whole_transaction(conn):
            oldest = fetch_int(
                conn, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8"
            )
        if oldest >= horizon:
            return Reader(*row)
        if time.monotonic() > deadline:
            forget_reader(conn, row[0])
            raise TimeoutError("a transaction of the index does not end; try again")
        time.sleep(0.05)


def last_number(conn: Conn) -> int:
    """Return the last number that was given."""
    return fetch_int(conn, "SELECT coalesce((SELECT last_seq FROM change_counter), 0)")


def move_reader(conn: Conn, export: int, seq: int) -> None:
    """Note what a folder holds, and delete blocks that every export has. Commits."""
    with whole_transaction(conn):
        conn.execute(
            "UPDATE export SET seq = %s, seen_at = now() WHERE id = %s", (seq, export)
        )
        _prune(conn)


def forget_reader(conn: Conn, export: int) -> None:
    """Forget an export. Commits."""
    with whole_transaction(conn):
        conn.execute("DELETE FROM export_account WHERE export = %s", (export,))
        conn.execute("DELETE FROM export WHERE id = %s", (export,))
        _prune(conn)


def forget_idle_readers(conn: Conn) -> int:
    """Forget exports that were not continued for a week; all if the log is too large.

    Commits. Returns their number. Such an export starts over.
    """
    with whole_transaction(conn):
        idle = conn.execute(
            "SELECT id FROM export WHERE seen_at < now() - make_interval(days => %s)"
            " OR (SELECT max(id) - min(id) FROM change_block) > %s",
            (_MOST_IDLE_DAYS, _MOST_BLOCKS),
        ).fetchall()
    for (export,) in idle:
        forget_reader(conn, export)
    return len(idle)


def forget_all_readers(conn: Conn) -> None:
    """Forget all exports, so that they start over. Commits.

    The database may be of a version without exports.
    """
    with whole_transaction(conn):
        if fetch_value(conn, "SELECT to_regclass('change_block')") is not None:
            conn.execute("TRUNCATE export, export_account, change_block")


def _prune(conn: Conn) -> None:
    conn.execute(
        "DELETE FROM change_block WHERE last_seq <= (SELECT min(seq) FROM export)"
        " OR NOT EXISTS (SELECT FROM export)"
    )


def hold_numbering(conn: Conn) -> None:
    """Wait to be the only one that numbers blocks, until `release_numbering`.

    Take the snapshot that is numbered after this call.
    """
    with whole_transaction(conn):
        conn.execute("SELECT pg_advisory_lock(%s)", (_NUMBERING,))


def release_numbering(conn: Conn) -> None:
    """End `hold_numbering`."""
    with whole_transaction(conn):
        conn.execute("SELECT pg_advisory_unlock(%s)", (_NUMBERING,))


def unnumbered_blocks(snapshot: Conn) -> list[tuple[int, int]]:
    """Return id and count of blocks without a number that a snapshot sees."""
    return snapshot.execute(
        "SELECT id, count FROM change_block WHERE last_seq IS NULL ORDER BY id"
    ).fetchall()


def number_blocks(
    conn: Conn, blocks: Sequence[tuple[int, int]]
) -> tuple[dict[int, int], int]:
    """Number these blocks, and the moment itself. Commits.

    Returns block id -> number of its last entry, and the number of the moment.
    """
    with whole_transaction(conn):
        seq = fetch_int(
            conn,
            "INSERT INTO change_counter (last_seq) VALUES (0) ON CONFLICT (single)"
            " DO UPDATE SET last_seq = change_counter.last_seq RETURNING last_seq",
        )
        numbers: dict[int, int] = {}
        for block, count in blocks:
            seq += count
            numbers[block] = seq
        conn.execute(
            "UPDATE change_block b SET last_seq = d.seq"
            " FROM unnest(%s::int8[], %s::int8[]) AS d (id, seq) WHERE b.id = d.id",
            ([*numbers], [*numbers.values()]),
        )
        # The moment is a number too: increments without changes differ.
        conn.execute("UPDATE change_counter SET last_seq = %s", (seq + 1,))
    return numbers, seq + 1


def read_blocks(
    snapshot: Conn, after: int, numbers: Mapping[int, int], most: int
) -> tuple[Entries, int | None]:
    """Return the entries above `after`, also of blocks that just got `numbers`.

    About `most` entries; then also the number of the last one read, else None.
    """
    parts: list[Entries] = []
    total = end = 0
    decompressor = zstandard.ZstdDecompressor()
    with snapshot.cursor(name="change_blocks", binary=True) as cursor:
        cursor.itersize = 50
        cursor.execute(
            "SELECT id, last_seq, changes FROM change_block"
            " WHERE last_seq > %s OR id = ANY(%s::int8[])"
            " ORDER BY last_seq NULLS LAST, id",
            (after, [*numbers]),
        )
        for number, seq, packed in cursor:
            if total >= most:
                return np.concatenate(parts), end
            parts.append(np.frombuffer(decompressor.decompress(packed), ENTRY))
            total += len(parts[-1])
            end = numbers[number] if seq is None else seq
    return (np.concatenate(parts) if parts else np.empty(0, ENTRY)), None


def mark_replaced(entries: Entries) -> Entries:
    """Return entries as if each record that was written had replaced another."""
    marked = entries.copy()
    marked["op"] |= (entries["op"] & CREATED) * CHANGED
    return marked


def merge_entries(entries: Entries) -> Entries:
    """Return each address once, sorted, with all that happened to it."""
    order = np.lexsort((entries["rkey"], entries["collection"], entries["actor"]))
    entries = entries[order]
    if not len(entries):
        return entries
    keys = entries[["actor", "collection", "rkey"]]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    merged = entries[starts].copy()
    merged["op"] = np.bitwise_or.reduceat(entries["op"], starts)
    return merged
