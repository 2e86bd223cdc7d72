"""Accounts: what their host says of them, what we decided, and forgetting them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from indexer.changes import Change, apply_changes
from indexer.collections.registry import OWNED_TABLES
from indexer.transaction import retry_conflicts, whole_transaction
from protocol.events.sequenced_frames import account_frame, sync_frame, utc_text
from storage.collections import NO_COLLECTION, NO_RKEY
from storage.drops import delete_dropped_of
from storage.jobs import claim_jobs, finish_jobs, put_jobs, renew_jobs
from storage.outbox import put_outbox
from storage.records import event_log
from storage.records.interning import Interner
from storage.records.links import delete_links_of
from storage.records.record_rows import read_page
from storage.records.stats import apply_stats
from storage.repos.resync_buffer import clear_commits
from storage.states import STATUS_ACTIVE, STATUS_DELETED, UPSTREAM_STATUSES

PURGE_JOB: Final = "purge_account"
"""Kind of the job that removes the rows of a deleted account; its key is the DID."""
UNKNOWN_INACTIVE: Final = "inactive"
STATUS_TAKEN_DOWN: Final = "takendown"
_PURGE_ROWS: Final = 2_000
_MOST_LINK_BYTES: Final = 16 * 1024**2
"""Of a table of links that is read whole for one account."""
_PURGE_LEASE_S: Final = 120.0
"""For one page of records; each page renews it."""


class NotDeletedError(Exception):
    """The account is there, or there again: nothing may be removed."""


def upstream_status(active: bool, status: str | None) -> str:
    """The one word kept for what `#account` or a listing says."""
    if active:
        return STATUS_ACTIVE
    if status in UPSTREAM_STATUSES and status != STATUS_ACTIVE:
        return status
    return UNKNOWN_INACTIVE


def save_statuses(conn: psycopg.Connection[Any], statuses: Mapping[int, str]) -> None:
    """Write actor -> upstream status, tell the search engine, and queue the removal
    of deleted accounts. Hidden from this transaction on: readers look at the status.
    Does not commit."""
    if not statuses:
        return
    actors = sorted(statuses)
    rows = conn.execute(
        """
        UPDATE actor SET upstream_status = d.status
        FROM unnest(%s::int4[], %s::text[]) AS d (id, status)
        WHERE actor.id = d.id AND actor.upstream_status <> d.status
        RETURNING actor.id, actor.did
        """,
        (actors, [statuses[actor] for actor in actors]),
    ).fetchall()
    conn.execute(
        """
        UPDATE repo SET hidden = NOT hidden
        FROM unnest(%s::int4[], %s::text[]) AS d (id, status)
        WHERE repo.actor = d.id AND hidden <> (d.status <> %s)
        """,
        (actors, [statuses[actor] for actor in actors], STATUS_ACTIVE),
    )
    put_outbox(conn, [(actor, NO_COLLECTION, NO_RKEY) for actor, _ in rows])
    deleted = [did for actor, did in rows if statuses[actor] == STATUS_DELETED]
    put_jobs(conn, PURGE_JOB, deleted)


def set_takedown(
    conn: psycopg.Connection[Any],
    actor: int,
    reason: str | None,
    *,
    send_on: bool = False,
) -> None:
    """Hide an account by our own decision, or show it again (None). The upstream's
    word is another column and stays. With `send_on` our streams tell it. Commits."""
    with whole_transaction(conn):
        conn.execute("SELECT FROM repo WHERE actor = %s FOR UPDATE", (actor,))
        conn.execute("UPDATE actor SET takedown = %s WHERE id = %s", (reason, actor))
        put_outbox(conn, [(actor, NO_COLLECTION, NO_RKEY)])
        if send_on:
            event_log.append(conn, _frames_of_state(conn, actor))


def _frames_of_state(conn: psycopg.Connection[Any], actor: int) -> list[bytes]:
    """Return what our streams tell of an account after a takedown or its end.

    A repo that is shown again comes with its head: readers missed its last commits.
    """
    row = conn.execute(
        """
        SELECT did, takedown IS NOT NULL, upstream_status, rev, commit
        FROM actor LEFT JOIN repo ON repo.actor = actor.id AND repo.selection IS NULL
        WHERE actor.id = %s
        """,
        (actor,),
        binary=True,
    ).fetchone()
    if row is None:
        return []
    did, taken_down, upstream, rev, commit = row
    time = utc_text(datetime.now(UTC))
    if taken_down:
        return [account_frame(did, False, STATUS_TAKEN_DOWN, time)]
    if upstream != STATUS_ACTIVE:
        status = None if upstream == UNKNOWN_INACTIVE else upstream
        return [account_frame(did, False, status, time)]
    frames = [account_frame(did, True, None, time)]
    if commit is not None:
        frames.append(sync_frame(did, rev, bytes(commit), time))
    return frames


def purge_account(
    conn: psycopg.Connection[Any],
    interner: Interner,
    actor: int,
    now: datetime,
    *,
    job: int | None = None,
) -> int:
    """Remove every row that came out of an account's repo; return how many records.

    In transactions of 2,000 records each: a kill leaves less to do, never a wrong
    count. The repo's row stays, desynchronized and empty. The lease of `job` is
    renewed with each. Raises NotDeletedError unless the account is deleted upstream.
    """
    removed = 0
    while True:
        count, ended = _purge_page(conn, interner, actor, now, job)
        removed += count
        if ended:
            return removed


@retry_conflicts
def _purge_page(
    conn: psycopg.Connection[Any],
    interner: Interner,
    actor: int,
    now: datetime,
    job: int | None,
) -> tuple[int, bool]:
    with whole_transaction(conn):
        _lock_deleted(conn, actor)
        if job is not None:
            renew_jobs(conn, [job], lease_s=_PURGE_LEASE_S)
        return remove_page(conn, interner, actor, now)


def remove_page(
    conn: psycopg.Connection[Any], interner: Interner, actor: int, now: datetime
) -> tuple[int, bool]:
    """Remove the next 2,000 records of an account with all that came out of them;
    return how many went and whether it has none left. The caller has taken its repo's
    head away, in the same transaction. Does not commit."""
    page, last = read_page(conn, actor, rows=_PURGE_ROWS)
    nsids = interner.nsids({collection for collection, _, _ in page})
    changes = [
        Change(actor, collection, rkey, nsids[collection], value, None)
        for collection, rkey, value in page
    ]
    apply_stats(conn, apply_changes(conn, interner, changes, now))
    if not last:
        return len(page), False
    delete_dropped_of(conn, actor)
    clear_commits(conn, actor)
    # A row that no record accounts for would be a fault of ours; an account that
    # asked to be forgotten must not pay for it.
    for table in OWNED_TABLES:
        if table != "link":
            conn.execute(f"DELETE FROM {table} WHERE actor = %s", (actor,))
    delete_links_of(conn, actor, most_bytes=_MOST_LINK_BYTES)
    return len(page), True


def purge_deleted(
    conn: psycopg.Connection[Any], interner: Interner, now: datetime, *, limit: int
) -> int:
    """Purge up to `limit` accounts whose deletion is queued; return how many records
    went. An account that came back meanwhile is left alone. Commits."""
    removed = 0
    for _ in range(limit):
        # One at a time: who dies here keeps one account waiting, for two minutes.
        with whole_transaction(conn):
            jobs = claim_jobs(conn, PURGE_JOB, limit=1, lease_s=_PURGE_LEASE_S)
        if not jobs:
            break
        [job] = jobs
        with suppress(NotDeletedError):
            actor = interner.actors([job.key])[job.key]
            removed += purge_account(conn, interner, actor, now, job=job.id)
        with whole_transaction(conn):
            finish_jobs(conn, [job.id])
    return removed


def _lock_deleted(conn: psycopg.Connection[Any], actor: int) -> None:
    conn.execute(
        """
        UPDATE repo SET state = 'desynchronized', rev = NULL, data = NULL,
            commit = NULL, lease_until = NULL
        WHERE actor = %s
        """,
        (actor,),
    )
    row = conn.execute(
        "SELECT upstream_status FROM actor WHERE id = %s", (actor,)
    ).fetchone()
    if row is None or row[0] != STATUS_DELETED:
        raise NotDeletedError(f"account {actor} is not deleted upstream")
