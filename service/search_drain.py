"""Keeps the search engine close behind the rows: drains the outbox as it fills."""

from __future__ import annotations

from typing import Final

from indexer.collections.texts import TEXTS
from search.drain import drain_outbox
from search.engines.contract import SearchEngine
from service.runtime.polling_thread import Wakeful
from storage.postgres.pool import Pool

_BATCH: Final = 500
_LOOK_S: Final = 0.25


def search_drain(pool: Pool, engine: SearchEngine) -> Wakeful:
    """A thread that writes waiting documents."""

    def drain() -> bool:
        with pool.connection() as conn:
            return drain_outbox(conn, engine, TEXTS, _BATCH) > 0

    return Wakeful("search_drain", drain, look_s=_LOOK_S)
