"""Sessions on the private database: one kind for reads, another for writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from storage.postgres.pool import Conn, Pool

STATEMENT_TIMEOUT_MS: Final = 2_000
# Statements fetch a few rows by key: a plan for the given values costs more than it
# saves.
_LIMIT: Final = (
    f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};"
    "SET LOCAL plan_cache_mode = force_generic_plan"
)


@dataclass(frozen=True, slots=True)
class PrivateStore:
    """The private database. Hold no connection of the index inside a session."""

    pool: Pool

    @contextmanager
    def read(self) -> Iterator[Conn]:
        """Open a read-only transaction."""
        with self.pool.connection() as conn:
            conn.execute(f"SET TRANSACTION READ ONLY; {_LIMIT}")
            yield conn

    @contextmanager
    def write(self) -> Iterator[Conn]:
        """Open a transaction that is committed at the end."""
        with self.pool.connection() as conn:
            conn.execute(_LIMIT)
            yield conn
