"""Transactions that are run again after a conflict, and that must be whole."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import psycopg

from storage.postgres.pool import Conn

P = ParamSpec("P")
R = TypeVar("R")

_ATTEMPTS: Final = 6
_FIRST_WAIT_S: Final = 0.02


def retry_conflicts(function: Callable[P, R]) -> Callable[P, R]:
    """Retry after a deadlock or a serialization failure, up to 6 calls.

    For functions that are one transaction: Postgres rolled it back as a whole.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(_ATTEMPTS - 1):
            try:
                return function(*args, **kwargs)
            except (
                psycopg.errors.DeadlockDetected,
                psycopg.errors.SerializationFailure,
            ):
                time.sleep(_FIRST_WAIT_S * 2**attempt * (0.5 + random.random()))
        return function(*args, **kwargs)

    return call


def require_idle(conn: Conn) -> None:
    """Raise RuntimeError if the connection is inside a transaction.

    A batch inside another transaction would end in a savepoint, and its cursor would be
    reported as saved too early.
    """
    if conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        raise RuntimeError("the connection is inside a transaction already")


@contextmanager
def whole_transaction(conn: Conn) -> Iterator[None]:
    """Run a transaction of its own and commit it; see `require_idle`."""
    require_idle(conn)
    with conn.transaction():
        yield
