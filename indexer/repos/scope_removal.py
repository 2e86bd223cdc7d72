"""Accounts that do not belong to the scope any more: everything of them goes, but for
the name that others' records link to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg

from indexer.account import remove_page
from indexer.transaction import retry_conflicts, whole_transaction
from storage.outbox import put_account
from storage.records.interning import Interner
from storage.repos.scope_rows import is_outside


@retry_conflicts
def remove_out_of_scope(
    conn: psycopg.Connection[Any], interner: Interner, did: str, now: datetime
) -> int:
    """Remove an account and return how many records went; none of one that belongs to
    the scope.

    In transactions of 2,000 records each: a kill leaves less to do, never a wrong
    count. An account that comes back in the middle is left to be fetched again.
    """
    actor = interner.actors([did])[did]
    removed = 0
    while True:
        with whole_transaction(conn):
            # The repo before the scope: so do all others who lock both.
            conn.execute("SELECT FROM repo WHERE actor = %s FOR UPDATE", (actor,))
            if not is_outside(conn, did):
                # Only what was begun must be mended, by fetching it.
                conn.execute(
                    "UPDATE repo SET next_try = now()"
                    " WHERE actor = %s AND next_try = 'infinity'",
                    (actor,),
                )
                return removed
            _take_head(conn, actor)
            count, ended = remove_page(conn, interner, actor, now)
            removed += count
            if ended:
                _forget(conn, actor)
                return removed


def _take_head(conn: psycopg.Connection[Any], actor: int) -> None:
    """What is half removed follows from no commit, and is not to be fetched."""
    conn.execute(
        """
        UPDATE repo SET state = 'desynchronized', rev = NULL, data = NULL,
            commit = NULL, lease_until = NULL, next_try = 'infinity'
        WHERE actor = %s
        """,
        (actor,),
    )


def _forget(conn: psycopg.Connection[Any], actor: int) -> None:
    row = conn.execute(
        "DELETE FROM repo WHERE actor = %s RETURNING host", (actor,)
    ).fetchone()
    if row is not None and row[0] is not None:
        conn.execute(
            "UPDATE host SET accounts = greatest(0, accounts - 1) WHERE id = %s",
            (row[0],),
        )
    conn.execute(
        "DELETE FROM job WHERE kind = 'identity'"
        " AND key = (SELECT did FROM actor WHERE id = %s)",
        (actor,),
    )
    conn.execute("UPDATE actor SET was_here = true WHERE id = %s", (actor,))
    put_account(conn, actor)
