"""Removal of accounts that left the scope; their ids stay for the links of others."""

from __future__ import annotations

from datetime import datetime

from indexer.account import remove_page
from storage.change_log import log_accounts
from storage.outbox import put_account
from storage.postgres.pool import Conn
from storage.postgres.transaction import retry_conflicts, whole_transaction
from storage.records.interning import Interner
from storage.repos.scope_rows import is_outside


@retry_conflicts
def remove_out_of_scope(conn: Conn, interner: Interner, did: str, now: datetime) -> int:
    """Remove an account that is outside the scope; return the number of records.

    Each transaction removes 2,000 records, so a crash only leaves work to do. An
    account that comes back meanwhile is left to be fetched again.
    """
    actor = interner.actors([did])[did]
    removed = 0
    while True:
        with whole_transaction(conn):
            # Lock order everywhere: the repo before the scope.
            conn.execute("SELECT FROM repo WHERE actor = %s FOR UPDATE", (actor,))
            if not is_outside(conn, did):
                # Fetch it again only if its removal had begun.
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


def _take_head(conn: Conn, actor: int) -> None:
    """Clear the head: a half-removed repo follows from no commit and is not fetched."""
    conn.execute(
        """
        UPDATE repo SET state = 'desynchronized', rev = NULL, data = NULL,
            commit = NULL, lease_until = NULL, next_try = 'infinity'
        WHERE actor = %s
        """,
        (actor,),
    )


def _forget(conn: Conn, actor: int) -> None:
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
    log_accounts(conn, [actor])
