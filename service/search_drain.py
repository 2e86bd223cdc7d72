"""Keeps the search engine close behind the rows: drains the outbox as it fills."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg_pool import ConnectionPool

from indexer.search_sync import drain_outbox
from search.engines.contract import SearchEngine
from service.runtime.polling_thread import Wakeful

_BATCH: Final = 500
_LOOK_S: Final = 0.25


def search_drain(
    pool: ConnectionPool[psycopg.Connection[Any]], engine: SearchEngine
) -> Wakeful:
    """A thread that writes waiting documents."""

    def drain() -> bool:
        with pool.connection() as conn:
            return drain_outbox(conn, engine, _BATCH) > 0

    return Wakeful("search_drain", drain, look_s=_LOOK_S)
