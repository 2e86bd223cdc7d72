"""Connections to a Postgres database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg_pool import ConnectionPool

Conn = psycopg.Connection[Any]
Pool = ConnectionPool[Conn]

_MOST_IDLE_MS: Final = 20_000


def _configure(conn: Conn) -> None:
    # Statement text is stable here, so server-side plans pay from the second use on.
    conn.prepare_threshold = 2
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
    """An open pool of `min` to `max` connections; use it as a context manager.

    A connection is checked before it is lent, so a restarted server costs one retry
    and not one error a connection. Who waits for one longer than `timeout` seconds gets
    psycopg_pool.PoolTimeout. Each new one is given to `prepare`, which ends
    its own transaction; one that it refuses with psycopg.Error is made anew.
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
        check=ConnectionPool.check_connection,
    )


def end_idle_transactions(conn: Conn) -> None:
    """Let the server end a transaction in which nothing is done for too long.

    To be given to `open_pool` as `prepare`.
    """
    conn.execute(f"SET idle_in_transaction_session_timeout = {_MOST_IDLE_MS}")
    conn.commit()


def connect(url: str) -> Conn:
    """One connection of our own, set up like those of a pool. Close it."""
    conn: Conn = psycopg.connect(url)
    _configure(conn)
    return conn


def ping(pool: Pool) -> None:
    """Ask the pool's server one question, on a connection beside it.

    Raises psycopg.Error.
    """
    url = pool.conninfo if isinstance(pool.conninfo, str) else pool.conninfo()
    with psycopg.connect(url, connect_timeout=2, autocommit=True) as conn:
        conn.execute("SET statement_timeout = '1s'")
        conn.execute("SELECT 1")
