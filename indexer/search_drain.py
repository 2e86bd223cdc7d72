"""A thread that keeps the search engine close behind the rows."""

from __future__ import annotations

import time
from typing import Final

import structlog

from indexer.collections.texts import TEXTS
from search.drain import drain_outbox
from search.engines.contract import EngineUnavailableError, SearchEngine
from search.engines.external import ExternalEngine
from search.matches.match_pass import LogMatches
from search.rebuild import adopt_engine, work_beside
from search.text.languages import load_model
from storage.postgres.polling_thread import PollingThread
from storage.postgres.pool import Pool

log = structlog.get_logger(__name__)

_BATCH: Final = 500
_BATCH_OUTSIDE: Final = 2_000
"""Each write to a server outside costs it a commit: larger batches, less often."""
_POLL_S: Final = 0.25
_FIRST_WAIT_S: Final = 1.0
_LAST_WAIT_S: Final = 60.0


def search_drain(
    pool: Pool, engine: SearchEngine, log_matches: LogMatches | None = None
) -> PollingThread:
    """Return a thread that writes queued documents and matches saved searches."""
    drain = _Drain(pool, engine, log_matches)
    return PollingThread("search_drain", drain.step, poll_s=_POLL_S)


class _Drain:
    """One step after the other; after a failure of the engine it waits longer."""

    def __init__(
        self, pool: Pool, engine: SearchEngine, log_matches: LogMatches | None
    ) -> None:
        self._pool = pool
        self._engine = engine
        self._log_matches = log_matches
        self._adopted = False
        self._wait_s = 0.0
        self._next_at = 0.0

    def step(self) -> bool:
        """Drain one batch; return True if there may be more to do."""
        if time.monotonic() < self._next_at:
            return False
        try:
            more = self._work()
        except EngineUnavailableError as error:
            self._fail(str(error))
            return False
        if self._wait_s:
            self._wait_s = 0.0
            log.info("search_drain_works_again", engine=self._engine.name)
        if isinstance(self._engine, ExternalEngine):
            self._engine.note_failure("")
        return more

    def _work(self) -> bool:
        engine = self._engine
        limit = _BATCH_OUTSIDE if engine.external else _BATCH
        with self._pool.connection() as conn:
            if not self._adopted:
                load_model()
                adopt_engine(conn, engine)
                self._adopted = True
            drained = drain_outbox(conn, engine, TEXTS, limit, self._log_matches)
            return work_beside(conn, engine, TEXTS) or drained > 0

    def _fail(self, why: str) -> None:
        self._wait_s = min(max(_FIRST_WAIT_S, self._wait_s * 2), _LAST_WAIT_S)
        self._next_at = time.monotonic() + self._wait_s
        log.warning("search_drain_failed", engine=self._engine.name, why=why)
        if isinstance(self._engine, ExternalEngine):
            self._engine.note_failure(why)
