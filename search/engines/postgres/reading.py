"""Read-only transactions of a search: one snapshot, one budget of database time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.rows import tuple_row

from search.engines.contract import TooCostlyError
from search.engines.postgres.slices import READ_SLICES, Slice, slices_of
from storage.postgres.pool import Pool

BUDGET_MS: Final = 1_000
"""Time of one search in the database, waits for a busy machine included."""
_SETTINGS: Final = f"""
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL statement_timeout = {BUDGET_MS};
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL enable_seqscan = off;
SET LOCAL jit = off;
SET LOCAL plan_cache_mode = force_generic_plan;
{READ_SLICES}
"""
_LATE_MS: Final = 30


class Reading:
    """The transaction of one search."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._left = float(BUDGET_MS)
        self._execute(_SETTINGS, None)
        while cursor.nextset():
            pass
        self.slices: list[Slice] = slices_of(cursor.fetchall())
        self.total = max(0, sum(one.documents for one in self.slices))

    def execute(self, sql: str, values: Sequence[Any]) -> Any:
        """Run a statement in what is left of the budget. Raises TooCostlyError."""
        if self._left < BUDGET_MS - _LATE_MS:
            if self._left < 1:
                raise _too_costly()
            self._execute(f"SET LOCAL statement_timeout = {int(self._left)}", None)
        return self._execute(sql, values)

    def rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Return all rows of a statement, like `execute`."""
        rows: list[Any] = self.execute(sql, values).fetchall()
        return rows

    def _execute(self, sql: str, values: Sequence[Any] | None) -> Any:
        started = time.monotonic()
        try:
            return self._cursor.execute(sql, values)
        except psycopg.errors.QueryCanceled:
            raise _too_costly() from None
        finally:
            self._left -= (time.monotonic() - started) * 1000


def _too_costly() -> TooCostlyError:
    return TooCostlyError("the search took too long; add a word, an author or a date")


@contextmanager
def open_reading(pool: Pool) -> Iterator[Reading]:
    """Open the transaction of one search."""
    with (
        pool.connection() as conn,
        conn.transaction(),
        conn.cursor(row_factory=tuple_row) as cursor,
    ):
        yield Reading(cursor)
