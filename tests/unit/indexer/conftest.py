"""One database for the room, emptied after each test, and an interner on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psycopg
import pytest
from indexer_world import NOW
from psycopg_pool import ConnectionPool

from indexer.apply import BatchResult, apply_batch
from protocol.events import Event
from storage.interning import Interner
from storage.schema import metadata

_RESERVED = {
    "collection": "id >= 1000",
    "path": "id >= 1000",
    "rkey": "id <= -1000",
    "dictionary": "false",
}
_EMPTY = "".join(
    f"DELETE FROM {name} WHERE {_RESERVED.get(name, 'true')};"
    for name in metadata.tables
)


@pytest.fixture(scope="session")
def room_database(databases: Any) -> Iterator[str]:
    url: str = databases.make("index")
    yield url
    databases.drop(url)


@pytest.fixture
def index_db(room_database: str) -> Iterator[str]:
    """Copying a template costs more than most tests here: empty one instead."""
    yield room_database
    with psycopg.connect(room_database) as connection:
        connection.execute(_EMPTY)


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
