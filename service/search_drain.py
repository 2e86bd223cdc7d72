"""Keeps the search engine close behind the rows: drains the outbox as it fills."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from indexer.search_sync import drain_outbox
from search.engine import SearchEngine

log = structlog.get_logger(__name__)

_BATCH = 500
# Rows of other processes (the worker) bring no wake-up; this is how late we see them.
_IDLE_S = 0.25
_AFTER_ERROR_S = 1.0


class SearchDrain:
    """A thread that writes waiting documents: `with SearchDrain(pool, engine) as d`."""

    def __init__(
        self, pool: ConnectionPool[psycopg.Connection[Any]], engine: SearchEngine
    ) -> None:
        self._pool = pool
        self._engine = engine
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="search-drain")

    def __enter__(self) -> SearchDrain:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """There may be documents to write. Call from any thread."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(_IDLE_S)
            self._wake.clear()
            try:
                while not self._stopping.is_set() and self._drain_batch():
                    pass
            except psycopg.Error as error:
                # The rows stay in the outbox; a dead database is everybody's trouble.
                log.warning("search_drain_failed", why=str(error))
                self._stopping.wait(_AFTER_ERROR_S)

    def _drain_batch(self) -> int:
        with self._pool.connection() as conn:
            return drain_outbox(conn, self._engine, _BATCH)
