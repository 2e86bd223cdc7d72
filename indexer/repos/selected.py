"""Repos of which something else is to be kept than what they hold: pruned where that
is less, queued where it is more."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import psycopg

from indexer.changes import Change, apply_changes
from indexer.repos.checkout import LOCK_CLASS, OTHER_COLLECTIONS
from indexer.repos.repo_states import (
    RepoState,
    choose_selections,
    lock_repos,
    save_repos,
)
from indexer.transaction import retry_conflicts, whole_transaction
from storage.drops import delete_dropped_outside
from storage.records.interning import Interner
from storage.records.record_rows import read_page
from storage.records.stats import apply_stats
from storage.repos.selections import load_selections, settle_wanted
from storage.states import REPO_DESYNCHRONIZED

_ROWS: Final = 2_000


@retry_conflicts
def keep_wanted(
    conn: psycopg.Connection[Any], interner: Interner, did: str, now: datetime
) -> int:
    """Bring one repo to what is to be kept of it; return how many records went.

    In transactions of 2,000 records at most: the repo says first that it holds less,
    and then its other records go, so it never claims what it has not. Of one that must
    hold more everything is fetched. An import under way compares for itself at its end.
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


def _covers(conn: psycopg.Connection[Any], repo: RepoState, wanted: int | None) -> bool:
    """Whether a repo holds all that is wanted of it."""
    if repo.keeps is None:
        return True
    if wanted is None:
        return False
    return load_selections(conn, [wanted])[wanted].collections <= repo.keeps


def _prune(
    conn: psycopg.Connection[Any],
    interner: Interner,
    actor: int,
    keeps: Collection[str],
    now: datetime,
) -> tuple[int, bool]:
    """Remove the next records that are not kept; how many, and whether all are gone."""
    kept = interner.collections(keeps).values()
    page, last = read_page(conn, actor, rows=_ROWS, outside=kept)
    nsids = interner.nsids({collection for collection, _, _ in page})
    changes = [
        Change(actor, collection, rkey, nsids[collection], value, None)
        for collection, rkey, value in page
    ]
    apply_stats(conn, apply_changes(conn, interner, changes, now))
    return len(page), last
