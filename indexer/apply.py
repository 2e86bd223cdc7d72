"""A batch of verified events -> one transaction: rows, counts, outbox, repo states and
cursors together, or nothing. One that makes very much is more, the cursors in the last.

Checked here, against the state that is locked: that a commit follows from the one
before (its rev is higher, its prev_data is our data). Not checked here: signatures,
trees, hashes; events are verified before they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from indexer.batch import Batch, BatchResult
from indexer.batch_parts import parts_of
from indexer.repos.repo_states import RepoState
from protocol.events.event import (
    CommitEvent,
    Event,
)
from storage.cursors import save_cursors
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.postgres.transaction import retry_conflicts, whole_transaction
from storage.records.interning import Interner
from storage.records.stats import StatsChange, apply_stats


def apply_batch(
    conn: Conn,
    interner: Interner,
    events: Sequence[Event],
    cursors: Mapping[int, int],
    now: datetime,
    *,
    shard: int = 0,
    send_on: bool = False,
) -> BatchResult:
    """Apply events in order, and save `cursors` (host id -> seq), in one transaction.

    Events that make very much go in several (indexer.batch_parts), the cursors with the
    last: after a failure in between they come again, and change nothing more.
    `now` is when this project sees the records. A commit that does not follow from
    the state we hold makes its repo desynchronized; one whose repo is being fetched
    is kept for the end of that; one of an inactive account, or older than what we
    hold, is ignored. Events of one account must not be in two batches at once
    (shards own their accounts). With `send_on` what is applied goes to the event log.
    """
    *parts, last = parts_of(events)
    result = BatchResult()
    for part in parts:
        result.add(_apply_part(conn, interner, part, {}, now, shard, send_on))
    result.add(_apply_part(conn, interner, last, cursors, now, shard, send_on))
    return result


@retry_conflicts
def _apply_part(
    conn: Conn,
    interner: Interner,
    events: Sequence[Event],
    cursors: Mapping[int, int],
    now: datetime,
    shard: int,
    send_on: bool,
) -> BatchResult:
    batch = Batch(interner, now, send_on=send_on)
    batch.intern(events)
    crashpoint(Crashpoint.APPLY_NAMED)
    with whole_transaction(conn):
        plan_for_probes(conn)
        batch.lock(conn, events)
        crashpoint(Crashpoint.APPLY_LOCKED)
        for event in events:
            batch.take(event)
        stats = batch.write(conn)
        crashpoint(Crashpoint.APPLY_WRITTEN)
        apply_stats(conn, stats)
        crashpoint(Crashpoint.APPLY_COUNTED)
        save_cursors(conn, cursors, shard=shard)
        crashpoint(Crashpoint.CURSOR_SAVED)
    crashpoint(Crashpoint.APPLY_COMMITTED)
    return batch.result


def apply_commits(
    conn: Conn,
    interner: Interner,
    repo: RepoState,
    events: Sequence[CommitEvent],
    now: datetime,
) -> tuple[BatchResult, StatsChange]:
    """Apply buffered commits of one repo that the caller's transaction has locked.

    The changes of the counts are returned, for the caller to apply with its own.
    """
    batch = Batch(interner, now)
    batch.intern(events)
    batch.repos[repo.actor] = repo
    for event in events:
        batch.take(event)
    stats = batch.write(conn)
    return batch.result, stats


def plan_for_probes(conn: Conn) -> None:
    """For the rest of the transaction, join by index probes: a batch touches a few
    rows of large tables, whatever the planner's statistics say."""
    conn.execute(
        "SELECT set_config('enable_hashjoin', 'off', true),"
        " set_config('enable_mergejoin', 'off', true),"
        " set_config('enable_seqscan', 'off', true)"
    )
