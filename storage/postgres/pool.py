"""Connections to a Postgres database."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg_pool import ConnectionPool

from storage.postgres.arrays import LiteralDumper

Conn = psycopg.Connection[Any]
Pool = ConnectionPool[Conn]

_MOST_IDLE_MS: Final = 20_000
_PREPARED: Final = 300
"""Prepared statements of a connection; the read side has about 250."""


def _configure(conn: Conn) -> None:
    # Statement texts are stable, so server-side plans pay from the second use.
    conn.prepare_threshold = 2
    conn.prepared_max = _PREPARED
    conn.adapters.register_dumper(list, LiteralDumper)
    conn.execute("SET timezone = 'UTC'")
    conn.commit()


def open_pool(
    url: str,
    min: int = 1,
    max: int = 8,
    name: str | None = None,
    *,
    timeout: float = 30.0,
    prepare: Callable[[Conn], None] = lambda _: None,
) -> Pool:
    """Open a pool of `min` to `max` connections; use it as a context manager.

    A connection is checked before use, so a restarted server costs one retry. Waiting
    longer than `timeout` seconds raises psycopg_pool.PoolTimeout. `prepare` gets each
    new connection and ends its own transaction; psycopg.Error discards it.
    """

    def configure(conn: Conn) -> None:
        _configure(conn)
        prepare(conn)

    return ConnectionPool(
        url,
        min_size=min,
        max_size=max,
        name=name,
        open=True,
        timeout=timeout,
        configure=configure,
        check=_check,
    )


def _check(conn: Conn) -> None:
    """Raise psycopg.OperationalError if the server has closed the connection.

    An idle connection has nothing to read, except its end or a notice. Only then is the
    server asked: a question before each use would cost a tenth of a small request.
    """
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(conn)


def end_idle_transactions(conn: Conn) -> None:
    """Limit idle transactions on the server; a `prepare` for `open_pool`."""
    conn.execute(f"SET idle_in_transaction_session_timeout = {_MOST_IDLE_MS}")
    conn.commit()


def connect(url: str) -> Conn:
    """Open one connection with the settings of a pool; the caller closes it."""
    conn: Conn = psycopg.connect(url)
    _configure(conn)
    return conn


def ping(pool: Pool) -> None:
    """Query the pool's server on a separate connection. Raises psycopg.Error."""
    url = pool.conninfo if isinstance(pool.conninfo, str) else pool.conninfo()
    with psycopg.connect(url, connect_timeout=2, autocommit=True) as conn:
        conn.execute("SET statement_timeout = '1s'")
        conn.execute("SELECT 1")
