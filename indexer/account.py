"""Account states: upstream status, our takedown, removal of deleted accounts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from indexer.collections.registry import OWNED_TABLES
from indexer.row_writes import remove_records
from protocol.events.sequenced_frames import account_frame, sync_frame, utc_text
from storage.change_log import log_accounts
from storage.collections import NO_COLLECTION, NO_RKEY
from storage.drops import delete_dropped_of
from storage.jobs import claim_jobs, finish_jobs, put_jobs, renew_jobs
from storage.outbox import put_outbox
from storage.postgres.pool import Conn
from storage.postgres.transaction import retry_conflicts, whole_transaction
from storage.records import event_log
from storage.records.interning import Interner
from storage.records.links import delete_links_of
from storage.records.record_rows import read_page
from storage.repos.resync_buffer import clear_commits
from storage.states import STATUS_ACTIVE, STATUS_DELETED, UPSTREAM_STATUSES

PURGE_JOB: Final = "purge_account"
"""Job kind: remove the rows of a deleted account. Its key is the DID."""
UNKNOWN_INACTIVE: Final = "inactive"
STATUS_TAKEN_DOWN: Final = "takendown"
_PURGE_ROWS: Final = 2_000
_MOST_LINK_BYTES: Final = 16 * 1024**2
"""Maximum size of a link table that is scanned for one account."""
_PURGE_LEASE_S: Final = 120.0
"""Lease for one page of records; each page renews it."""


class NotDeletedError(Exception):
    """The account is not deleted upstream: nothing may be removed."""


def upstream_status(active: bool, status: str | None) -> str:
    """Return the status to store for an `#account` event or a listing."""
    if active:
        return STATUS_ACTIVE
    if status in UPSTREAM_STATUSES and status != STATUS_ACTIVE:
        return status
    return UNKNOWN_INACTIVE


def save_statuses(conn: Conn, statuses: Mapping[int, str]) -> None:
    """Write actor -> upstream status, notify the search engine and queue the removal of
    deleted accounts. Does not commit.

    Readers check the status, so an inactive account is hidden from this transaction on.
    """
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
    log_accounts(conn, [actor for actor, _ in rows])
    deleted = [did for actor, did in rows if statuses[actor] == STATUS_DELETED]
    put_jobs(conn, PURGE_JOB, deleted)


def set_takedown(
    conn: Conn, actor: int, reason: str | None, *, rebroadcast: bool = False
) -> None:
    """Hide an account for `reason`, or show it again (None). Commits.

    The upstream status is another column and stays. With `rebroadcast` our streams send
    an event about it.
    """
    with whole_transaction(conn):
        conn.execute("SELECT FROM repo WHERE actor = %s FOR UPDATE", (actor,))
        conn.execute("UPDATE actor SET takedown = %s WHERE id = %s", (reason, actor))
        put_outbox(conn, [(actor, NO_COLLECTION, NO_RKEY)])
        log_accounts(conn, [actor])
        if rebroadcast:
            event_log.append(conn, _frames_of_state(conn, actor))


def _frames_of_state(conn: Conn, actor: int) -> list[bytes]:
    """Return the frames that announce a takedown or its end.

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
    conn: Conn, interner: Interner, actor: int, now: datetime, *, job: int | None = None
) -> int:
    """Remove every row read from an account's repo; return the number of records.

    Each transaction removes 2,000 records and renews the lease of `job`, so a crash
    only leaves work to do. The repo's row stays, desynchronized and empty. Raises
    NotDeletedError unless the account is deleted upstream.
    """
    removed = 0
    while True:
        count, ended = _purge_page(conn, interner, actor, now, job)
        removed += count
        if ended:
            return removed


@retry_conflicts
def _purge_page(
    conn: Conn, interner: Interner, actor: int, now: datetime, job: int | None
) -> tuple[int, bool]:
    with whole_transaction(conn):
        _lock_deleted(conn, actor)
        if job is not None:
            renew_jobs(conn, [job], lease_s=_PURGE_LEASE_S)
        return remove_page(conn, interner, actor, now)


def remove_page(
    conn: Conn, interner: Interner, actor: int, now: datetime
) -> tuple[int, bool]:
    """Remove the next 2,000 records of an account with all rows made of them. Does not
    commit.

    Returns the number removed, and True if none is left. The caller has cleared the
    repo's head in the same transaction.
    """
    page, last = read_page(conn, actor, rows=_PURGE_ROWS)
    remove_records(conn, interner, actor, page, now)
    if not last:
        return len(page), False
    delete_dropped_of(conn, actor)
    clear_commits(conn, actor)
    # Rows without a record should not exist; a deleted account loses them too.
    for table in OWNED_TABLES:
        if table != "link":
            conn.execute(f"DELETE FROM {table} WHERE actor = %s", (actor,))
    delete_links_of(conn, actor, most_bytes=_MOST_LINK_BYTES)
    return len(page), True


def purge_deleted(conn: Conn, interner: Interner, now: datetime, *, limit: int) -> int:
    """Purge up to `limit` accounts whose deletion is queued; return the number of
    records. Commits.

    An account that became active again is skipped.
    """
    removed = 0
    for _ in range(limit):
        # One at a time: a crash delays one account by its lease.
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


def _lock_deleted(conn: Conn, actor: int) -> None:
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
