"""A thread that keeps the search engine close behind the rows."""

from __future__ import annotations

from typing import Final

from indexer.collections.texts import TEXTS
from search.drain import LogMatches, drain_outbox
from search.engines.contract import SearchEngine
from storage.postgres.polling_thread import PollingThread
from storage.postgres.pool import Pool

_BATCH: Final = 500
_POLL_S: Final = 0.25


def search_drain(
    pool: Pool, engine: SearchEngine, log_matches: LogMatches | None = None
) -> PollingThread:
    """Return a thread that writes queued documents and matches saved searches."""

    def drain() -> bool:
        with pool.connection() as conn:
            return drain_outbox(conn, engine, TEXTS, _BATCH, log_matches) > 0

    return PollingThread("search_drain", drain, poll_s=_POLL_S)
