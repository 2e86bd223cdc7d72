"""The scope of the index: from the settings at a start, and kept while crawling."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import psycopg
import structlog

from crawler.database import Database
from crawler.scope.reconciler import ScopeKeeper
from service.crawling import WriteSide
from service.runtime.config import Config
from storage.repos.scope_rows import ScopeKind, load_scope, set_scope

log = structlog.get_logger(__name__)

_TRIES: Final = 5


def apply_settings(conn: psycopg.Connection[Any], config: Config) -> bool:
    """Set the scope that the settings name, if they are not those it was last taken
    from: what a command has set meanwhile stays. Does not commit."""
    kind = ScopeKind(config.scope or ("dids" if config.dids else "network"))
    seeds = config.dids if kind in (ScopeKind.DIDS, ScopeKind.FOLLOWS) else ()
    named = [kind, sorted(seeds), sorted(config.collections)]
    text = json.dumps([*named, sorted(config.keep)] if config.keep else named)
    if load_scope(conn).settings == text:
        return False
    set_scope(
        conn,
        kind,
        seeds=seeds,
        collections=config.collections,
        keep=config.keep,
        settings=text,
    )
    return True


async def keep_scope(side: WriteSide, stop: asyncio.Event) -> None:
    """Keep the accounts of the scope what they should be, until `stop`."""
    database = Database(side.pool, most_tries=_TRIES)
    async with side.open_clients() as clients:
        keeper = ScopeKeeper(
            side.settings,
            database,
            clients,
            side.index.remove_out_of_scope,
            side.index.keep_wanted,
        )
        await keeper.run(stop)
