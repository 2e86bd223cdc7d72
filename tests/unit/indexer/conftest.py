"""One database for the room, emptied after each test, and an interner on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
import pytest
from indexer_world import NOW
from psycopg_pool import ConnectionPool

from indexer.apply import BatchResult, apply_batch
from protocol.events.event import Event
from storage.records.interning import Interner


@pytest.fixture
def index_db(emptied_db: str) -> str:
    return emptied_db


@pytest.fixture
def interner(pool: ConnectionPool[Any]) -> Interner:
    return Interner(pool, cache_size=1_000)


Apply = Callable[..., BatchResult]


@pytest.fixture
def apply(conn: psycopg.Connection[Any], interner: Interner) -> Apply:
    """Apply events as one batch; the cursor is the last seq of each host."""

    def run(*events: Event, cursors: Mapping[int, int] | None = None) -> BatchResult:
        seen: Sequence[Event] = events
        if cursors is None:
            cursors = {event.host: event.seq for event in seen}
        return apply_batch(conn, interner, seen, cursors, NOW)

    return run
