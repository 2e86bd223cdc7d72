"""Import of one repo from its CAR, piece by piece."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Final

from crawler.repos.spill import BlockSpill
from indexer.index_writer import IndexWriter, RepoImport
from indexer.repos.repo_batch import FetchedRepo
from protocol.events.event import DroppedOp
from protocol.identity.keys import PublicKey
from protocol.repo.whole_repo import RepoReader, RepoRecord
from protocol.syntax.did import Did
from storage.repos.selections import Selection

SMALL_RECORDS: Final = 2_000
SMALL_BYTES: Final = 1024 * 1024
"""Smaller repos are imported in batches, larger ones in a checkout of their own."""


class StreamedImport:
    """`feed` bytes, then `finish`; `close` at the end. Used by one thread at a time.

    Of a `selection` only the records of its collections are imported. Raises what the
    reader and the index raise.
    """

    def __init__(
        self,
        index: IndexWriter,
        did: Did,
        host: int,
        key: PublicKey,
        selection: Selection | None = None,
        *,
        spill: bool,
    ) -> None:
        self.records = 0
        self._index = index
        self._did = did
        self._host = host
        self._selection = None if selection is None else selection.id
        self._keeps = None if selection is None else selection.collections
        self._stack = ExitStack()
        # A CAR whose order needs too much memory goes to disk at the second try.
        store = self._stack.enter_context(BlockSpill()) if spill else None
        self._reader = RepoReader(key, did, time.time_ns() // 1_000, store)
        self._importing: RepoImport | None = None
        self._waiting: list[RepoRecord] = []
        self._waiting_bytes = 0
        self._drops: list[DroppedOp] = []

    def feed(self, chunk: bytes) -> None:
        """Read a piece of the CAR."""
        self._read(chunk)
        if not self._is_small():
            self._hand_over()

    def finish(self, chunk: bytes) -> FetchedRepo | None:
        """Read the last piece and import; return a small repo instead."""
        self._read(chunk)
        head = self._reader.finish()
        if self._importing is None and self._is_small():
            return FetchedRepo(
                self._did, self._host, head, self._waiting, self._drops, self._selection
            )
        self._hand_over()
        assert self._importing is not None
        self._importing.finish(head)
        return None

    def close(self) -> None:
        """Leave the checkout, which rolls it back unless it was finished."""
        self._stack.close()

    def _is_small(self) -> bool:
        return (
            len(self._waiting) + len(self._drops) <= SMALL_RECORDS
            and self._waiting_bytes <= SMALL_BYTES
        )

    def _read(self, chunk: bytes) -> None:
        found = self._reader.feed(chunk)
        drops = self._reader.take_drops()
        if self._keeps is not None:
            found = [record for record in found if record.collection in self._keeps]
            drops = [drop for drop in drops if drop.is_of(self._keeps)]
        self.records += len(found)
        self._waiting += found
        self._waiting_bytes += sum(len(record.value) for record in found)
        self._drops += drops

    def _hand_over(self) -> None:
        if self._importing is None:
            # Opened late: silent hosts must not hold a connection.
            self._importing = self._stack.enter_context(
                self._index.checkout(self._did, self._host, self._selection)
            )
        self._importing.add(self._waiting)
        self._importing.drop(self._drops)
        self._waiting, self._waiting_bytes, self._drops = [], 0, []
