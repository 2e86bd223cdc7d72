"""Repos that hold other collections than wanted: pruned, or queued for a fetch."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from indexer.repos.checkout import LOCK_CLASS, OTHER_COLLECTIONS
from indexer.repos.repo_states import (
    RepoState,
    choose_selections,
    lock_repos,
    save_repos,
)
from indexer.row_writes import remove_records
from storage.drops import delete_dropped_outside
from storage.postgres.pool import Conn
from storage.postgres.transaction import retry_conflicts, whole_transaction
from storage.records.interning import Interner
from storage.records.record_rows import read_page
from storage.repos.selections import load_selections, settle_wanted
from storage.states import REPO_DESYNCHRONIZED

_ROWS: Final = 2_000


@retry_conflicts
def keep_wanted(conn: Conn, interner: Interner, did: str, now: datetime) -> int:
    """Bring one repo to the wanted collections; return the number of removed records.

    Each transaction removes at most 2,000 records. The repo's selection shrinks before
    its records go, so it never claims records that are gone. A repo that must hold more
    is fetched whole. A running import compares at its end.
    """
    actor = interner.actors([did])[did]
    removed = 0
    while True:
        with whole_transaction(conn):
            row = conn.execute(
                "SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCK_CLASS, actor)
            ).fetchone()
            repo = lock_repos(conn, {actor: None}, ()).get(actor)
            if repo is None or repo.rev is None or row != (True,):
                return removed
            wanted = settle_wanted(conn)
            if not _covers(conn, repo, wanted):
                if repo.state != REPO_DESYNCHRONIZED:
                    repo.desynchronize(OTHER_COLLECTIONS)
                    save_repos(conn, [repo])
                return removed
            choose_selections(conn, [(repo, wanted)])
            if repo.keeps is None:
                return removed
            repo.changed = True
            save_repos(conn, [repo])
            count, ended = _prune(conn, interner, actor, repo.keeps, now)
            removed += count
            if ended:
                delete_dropped_outside(conn, actor, repo.keeps)
                return removed


def _covers(conn: Conn, repo: RepoState, wanted: int | None) -> bool:
    """Return True if a repo holds all wanted collections."""
    if repo.keeps is None:
        return True
    if wanted is None:
        return False
    return load_selections(conn, [wanted])[wanted].collections <= repo.keeps


def _prune(
    conn: Conn, interner: Interner, actor: int, keeps: Collection[str], now: datetime
) -> tuple[int, bool]:
    """Remove the next records that are not kept; return their number, and True if none
    is left."""
    kept = interner.collections(keeps).values()
    page, last = read_page(conn, actor, rows=_ROWS, outside=kept)
    remove_records(conn, interner, actor, page, now)
    return len(page), last
