"""Work in Postgres that is retried until it succeeds.

Lost connections, deadlocks and serialization failures are retried with backoff.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg

from crawler.backoff import full_jitter
from storage.postgres.pool import Conn, Pool

log = logging.getLogger(__name__)

T = TypeVar("T")

_DATABASE_ERRORS: Final = (psycopg.OperationalError, psycopg.InterfaceError)
# Class 54, "program limit exceeded", counts as operational, but a row that is too
# large for an index stays too large.
_LIMIT_CLASS: Final = "54"
_SHORT_WAIT: Final = 2.0


def is_transient(error: BaseException) -> bool:
    """Return True if the same work may succeed later.

    True for lost connections, deadlocks, serialization failures and a full disk.
    """
    if not isinstance(error, _DATABASE_ERRORS):
        return False
    state = getattr(error, "sqlstate", None)
    return not (isinstance(state, str) and state.startswith(_LIMIT_CLASS))


class StoppedError(Exception):
    """The process is stopping; the work was not done."""


class Database:
    """Runs functions of a connection, each in one transaction, until they succeed.

    With `most_tries` the last error is raised instead.
    """

    def __init__(
        self, pool: Pool, *, retry_cap: float = 5.0, most_tries: int | None = None
    ) -> None:
        self._pool = pool
        self._retry_cap = retry_cap
        self._most_tries = most_tries
        self._stopped = threading.Event()
        self.healthy = True

    def run(self, work: Callable[[Conn], T]) -> T:
        """Run `work` in a transaction and commit. StoppedError after `stop`."""

        def once() -> T:
            with self._pool.connection() as conn:
                return work(conn)

        return self.persist(once)

    def try_once(self, work: Callable[[Conn], Any]) -> bool:
        """Run `work` if the database answers now; return False if it does not."""
        try:
            with self._pool.connection(timeout=_SHORT_WAIT) as conn:
                work(conn)
        except _DATABASE_ERRORS:
            return False
        return True

    def persist(self, work: Callable[[], T]) -> T:
        """Call `work` until it does not fail for a transient reason.

        `work` must undo itself when it fails. Other errors are raised at once.
        """
        tries = 0
        while True:
            try:
                result = work()
            except _DATABASE_ERRORS as error:
                if not is_transient(error):
                    raise
                tries += 1
                self.healthy = False
                if self._most_tries is not None and tries >= self._most_tries:
                    raise
                wait = full_jitter(tries, base=0.05, cap=self._retry_cap)
                log.warning(
                    "database_unavailable",
                    extra={"tries": tries, "wait_s": round(wait, 2), "why": str(error)},
                )
                if self._stopped.wait(wait):
                    raise StoppedError from error
            else:
                self.healthy = True
                return result

    def stop(self) -> None:
        """Stop retrying: work that fails from now on raises StoppedError."""
        self._stopped.set()
