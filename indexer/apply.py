"""Apply a batch of verified events in one transaction.

Rows, counts, outbox, repo states and cursors commit together. Checked here against the
locked state: a commit's rev is higher than ours and its prev_data is our data.
Signatures, trees and hashes are verified before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from indexer.batch import Batch, BatchResult
from indexer.batch_parts import parts_of
from indexer.repos.repo_states import RepoState
from protocol.events.event import CommitEvent, Event
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
    rebroadcast: bool = False,
) -> BatchResult:
    """Apply events in order and save `cursors` (host id -> seq), in one transaction.

    A very large batch takes several (indexer.batch_parts), with the cursors in the
    last: events that come again change nothing. `now` is the time of indexing.

    A commit that does not follow from our state desynchronizes its repo. One whose repo
    is being fetched is buffered until the fetch ends. One of an inactive account, or
    older than our state, is ignored.

    Events of one account must not be in two batches at once (shards own their
    accounts). With `rebroadcast`, applied events go to the event log.
    """
    *parts, last = parts_of(events)
    result = BatchResult()
    for part in parts:
        result.add(_apply_part(conn, interner, part, {}, now, shard, rebroadcast))
    result.add(_apply_part(conn, interner, last, cursors, now, shard, rebroadcast))
    return result


@retry_conflicts
def _apply_part(
    conn: Conn,
    interner: Interner,
    events: Sequence[Event],
    cursors: Mapping[int, int],
    now: datetime,
    shard: int,
    rebroadcast: bool,
) -> BatchResult:
    batch = Batch(interner, now, rebroadcast=rebroadcast)
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

    Returns the changes of counts, which the caller applies with its own.
    """
    batch = Batch(interner, now)
    batch.intern(events)
    batch.repos[repo.actor] = repo
    for event in events:
        batch.take(event)
    stats = batch.write(conn)
    return batch.result, stats


def plan_for_probes(conn: Conn) -> None:
    """Join by index probes for the rest of the transaction.

    A batch touches a few rows of large tables, which the planner's statistics hide.
    """
    conn.execute(
        "SELECT set_config('enable_hashjoin', 'off', true),"
        " set_config('enable_mergejoin', 'off', true),"
        " set_config('enable_seqscan', 'off', true)"
    )
