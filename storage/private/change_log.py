"""Rows whose changes are read in order, by every process that holds them in memory.

A change takes the next number under the lock of one counter, which is held until the
commit: a reader that has seen a number has seen all lower ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn


@dataclass(frozen=True, slots=True)
class ChangeLog:
    """A table with a column `changed`, whose counter is the table NAME_counter.

    A removed row stays, without a value in `content`, until its removal was read.
    """

    table: str
    columns: str
    content: str

    def take_number(self, conn: Conn) -> int:
        """Return the number of a change. Others that change a row wait for the end of
        the transaction."""
        return fetch_int(
            conn, f"UPDATE {self.table}_counter SET last = last + 1 RETURNING last"
        )

    def read(self, conn: Conn, seen: int, limit: int) -> tuple[int, list[Any]]:
        """Return the number of the last change, and rows that changed after `seen`."""
        rows = conn.execute(
            f"SELECT changed, {self.columns} FROM {self.table}"
            " WHERE changed > %s ORDER BY changed, id LIMIT %s",
            (seen, limit),
        ).fetchall()
        return (rows[-1][0] if rows else seen), [row[1:] for row in rows]

    def forget_removed(self, conn: Conn, before: datetime) -> int:
        """Delete the rows that were removed before a time; return their number.

        Readers that were started earlier must have seen their change: `before` is a
        day.
        """
        return conn.execute(
            f"DELETE FROM {self.table} WHERE {self.content} IS NULL AND saved_at < %s",
            (before,),
        ).rowcount
