"""Fixtures of unit tests of several packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from appview_world import Provider, serve_world
from indexer_world import NOW

from indexer.apply import apply_batch
from indexer.batch import BatchResult
from protocol.events.event import Event
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    """Serve a few accounts over HTTP."""
    url = databases.make("index")
    with serve_world(url) as provider:
        yield provider
    databases.drop(url)


@pytest.fixture
def interner(pool: Pool) -> Interner:
    return Interner(pool, cache_size=1_000)


Apply = Callable[..., BatchResult]


@pytest.fixture
def apply(conn: Conn, interner: Interner) -> Apply:
    """Apply events as one batch; the cursor is the last seq of each host."""

    def run(*events: Event, cursors: Mapping[int, int] | None = None) -> BatchResult:
        seen: Sequence[Event] = events
        if cursors is None:
            cursors = {event.host: event.seq for event in seen}
        return apply_batch(conn, interner, seen, cursors, NOW)

    return run
