"""Blocks that wait for their place in a repo, on disk instead of in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, MutableMapping
from typing import Self


class BlockSpill(MutableMapping[bytes, bytes]):
    """CID -> block in a temporary file that vanishes when it is closed."""

    def __init__(self) -> None:
        # The empty name is SQLite's temporary file. One thread at a time uses it.
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute(
            "CREATE TABLE block (cid BLOB PRIMARY KEY, data BLOB) WITHOUT ROWID"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getitem__(self, cid: bytes) -> bytes:
        row = self._file.execute(
            "SELECT data FROM block WHERE cid = ?", (cid,)
        ).fetchone()
        if row is None:
            raise KeyError(cid)
        data: bytes = row[0]
        return data

    def __setitem__(self, cid: bytes, data: bytes) -> None:
        self._file.execute("INSERT OR REPLACE INTO block VALUES (?, ?)", (cid, data))

    def __delitem__(self, cid: bytes) -> None:
        if not self._file.execute("DELETE FROM block WHERE cid = ?", (cid,)).rowcount:
            raise KeyError(cid)

    def __iter__(self) -> Iterator[bytes]:
        for (cid,) in self._file.execute("SELECT cid FROM block").fetchall():
            yield cid

    def __len__(self) -> int:
        count: int = self._file.execute("SELECT count(*) FROM block").fetchone()[0]
        return count
