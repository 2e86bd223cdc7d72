"""A fetched repo in a staging table, to find its differences from the stored one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from indexer.changes import Change
from indexer.repos.import_rows import Addressed, Dropped
from protocol.data.cid import cid_for
from protocol.data.record import open_record
from protocol.events.drops import DropReason
from protocol.limits import MAX_RECORD_BYTES_BACKFILL
from storage.postgres.copy import copy_packed
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.records.record_codec import decompress
from storage.records.record_rows import COLUMNS as RECORD_COLUMNS
from storage.records.record_rows import pack_records

_CHUNK_RECORDS: Final = 2_000
_CHUNK_BYTES: Final = 2_000_000
_FETCH_ROWS: Final = 32
"""A row may hold two records of 1 MiB."""


class StagedRepo:
    """A staged repo; it ends with the caller's transaction."""

    def __init__(self, conn: Conn, interner: Interner, actor: int) -> None:
        self._conn = conn
        self._interner = interner
        self._actor = actor
        conn.execute(_STAGE)

    def add(self, groups: Sequence[Addressed]) -> None:
        rows: list[bytes] = []
        for group in groups:
            addresses = [(self._actor, group.collection, rkey) for rkey in group.rkeys]
            rows += pack_records(addresses, [record.value for record in group.records])
        copy_packed(self._conn, "staged_record", RECORD_COLUMNS, rows)

    def differences(self, dropped: list[Dropped]) -> Iterator[list[Change]]:
        """Yield the changes that turn the stored repo into the staged one.

        They come in pieces that fit in memory; each may be written before the next is
        read. Staged records that cannot be kept go into `dropped`.
        """
        conn = self._conn
        # The comparison is the one query of the import that wants a hash join.
        conn.execute("SET LOCAL enable_hashjoin = on")
        with conn.cursor(name="difference", binary=True) as cursor:
            cursor.execute(_DIFFERENCE, (self._actor,))
            conn.execute("SET LOCAL enable_hashjoin = off")
            changes: list[Change] = []
            size = 0
            while rows := cursor.fetchmany(_FETCH_ROWS):
                for row in rows:
                    change = self._compare(dropped, *row)
                    if change is None:
                        continue
                    changes.append(change)
                    size += len(change.old or b"") + len(change.new or b"")
                    if len(changes) >= _CHUNK_RECORDS or size > _CHUNK_BYTES:
                        yield changes
                        changes, size = [], 0
            if changes:
                yield changes

    def _compare(
        self,
        dropped: list[Dropped],
        collection: int,
        rkey: int,
        held: bytes | None,
        staged: bytes | None,
    ) -> Change | None:
        """Return the change of a record whose stored forms differ."""
        old = None if held is None else decompress(held)
        new = None if staged is None else decompress(staged)
        if old == new:
            return None
        [nsid] = self._interner.nsids([collection]).values()
        if new is not None:
            # Not kept decoded, which may take seventy times the memory.
            fields = open_record(new, MAX_RECORD_BYTES_BACKFILL)
            if isinstance(fields, DropReason):
                [text] = self._interner.rkey_texts([rkey]).values()
                path = f"{nsid}/{text}".encode()
                dropped.append((self._actor, path, cid_for(new), fields))
                new = None
        if old is None and new is None:
            return None
        return Change(self._actor, collection, rkey, nsid, old, new)


_STAGE: Final = """
    CREATE TEMPORARY TABLE staged_record (
        actor int4 NOT NULL, collection int4 NOT NULL, rkey int8 NOT NULL,
        value bytea NOT NULL
    ) ON COMMIT DROP
"""
_DIFFERENCE: Final = """
    SELECT collection, rkey, held.value, staged.value
    FROM (SELECT collection, rkey, value FROM record WHERE actor = %s) AS held
    FULL JOIN staged_record AS staged USING (collection, rkey)
    WHERE held.value IS DISTINCT FROM staged.value
"""
