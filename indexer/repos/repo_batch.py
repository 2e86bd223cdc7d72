"""Import of many small repos in one transaction.

Most repos hold a handful of records, so a transaction for each would be mostly
overhead. Only repos of which nothing is stored are imported here; the others go through
a Checkout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from indexer.apply import apply_commits, plan_for_probes
from indexer.repos.checkout import LOCK_CLASS, settle_repos, sync_frame_of
from indexer.repos.import_rows import Addresses, Dropped, prepare_import
from indexer.repos.repo_states import RepoState, choose_selections, lock_repos
from indexer.row_writes import write
from protocol.events.event import DroppedOp
from protocol.repo.whole_repo import RepoHead, RepoRecord
from protocol.syntax.did import Did
from storage.drops import count_drops, delete_dropped_of, put_dropped_records
from storage.postgres.arrays import int_array
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.postgres.transaction import retry_conflicts, whole_transaction
from storage.records import event_log
from storage.records.interning import Interner
from storage.records.stats import StatsChange, apply_stats
from storage.repos.resync_buffer import clear_commits, find_buffered, load_commits
from storage.states import STATUS_DELETED


@dataclass(frozen=True, slots=True)
class FetchedRepo:
    """A verified repo in memory: whole, or all of a selection."""

    did: Did
    host: int
    head: RepoHead
    records: Sequence[RepoRecord]
    drops: Sequence[DroppedOp] = ()
    selection: int | None = None


class BatchChangedError(Exception):
    """A repo of the batch changed during its import: nothing was written."""


@retry_conflicts
def import_fresh(
    conn: Conn,
    interner: Interner,
    repos: Sequence[FetchedRepo],
    now: datetime,
    *,
    rebroadcast: bool = False,
) -> list[FetchedRepo]:
    """Import the claimed repos of which nothing is stored, in one transaction; return
    the others.

    Raises BatchChangedError or psycopg.Error; then nothing was written at all.
    """
    batch = _Batch(conn, interner, now, rebroadcast)
    actors = interner.actors(repo.did for repo in repos)
    with whole_transaction(conn):
        plan_for_probes(conn)
        by_actor = {actors[repo.did]: repo for repo in repos}
        taken = batch.choose(by_actor)
        if taken:
            batch.write(taken)
    return [repo for actor, repo in by_actor.items() if actor not in taken]


@dataclass(slots=True)
class _Batch:
    conn: Conn
    interner: Interner
    now: datetime
    rebroadcast: bool
    known: dict[int, str | None] = field(default_factory=dict)

    def choose(self, repos: Mapping[int, FetchedRepo]) -> dict[int, FetchedRepo]:
        """Return the fresh repos, locked against other imports."""
        rows = self.conn.execute(
            _CHOOSE, (LOCK_CLASS, int_array(sorted(repos)))
        ).fetchall()
        for actor, fresh, rev in rows:
            if fresh and (rev is None or rev <= repos[actor].head.rev):
                self.known[actor] = rev
        return {actor: repos[actor] for actor in self.known}

    def write(self, taken: dict[int, FetchedRepo]) -> None:
        conn = self.conn
        addresses = Addresses(self.interner)
        dropped: list[Dropped] = []
        groups = []
        for actor, repo in taken.items():
            groups += addresses.sort(actor, repo.records, dropped)
            dropped += _tree_drops(actor, repo.drops)
        stats = StatsChange()
        fresh = True
        for prepared in prepare_import(groups, self.interner, self.now, dropped):
            stats.merge(write(conn, prepared, self.now, fresh=fresh))
            fresh = False
        delete_dropped_of(conn, *taken)
        put_dropped_records(conn, dropped)
        crashpoint(Crashpoint.BATCH_WRITTEN)
        states = lock_repos(
            conn, {actor: repo.host or None for actor, repo in taken.items()}, taken
        )
        choose_selections(
            conn, [(states[actor], repo.selection) for actor, repo in taken.items()]
        )
        for actor, state in states.items():
            gone = state.status == STATUS_DELETED
            if gone or state.doubted or state.rev != self.known[actor]:
                raise BatchChangedError
            head = taken[actor].head
            state.advance(head.rev, head.data, head.commit)
        self._drain(states, stats)
        self._save(taken, states)
        hosts = {actor: repo.host for actor, repo in taken.items()}
        apply_stats(conn, stats)
        count_drops(conn, Counter((row[3].value, hosts[row[0]]) for row in dropped))
        crashpoint(Crashpoint.BATCH_SAVED)

    def _drain(self, states: dict[int, RepoState], stats: StatsChange) -> None:
        """Apply the commits that came during the fetch."""
        buffered = find_buffered(self.conn, list(states))
        for actor in buffered:
            # One at a time: those of five hundred repos may not fit in memory.
            events = load_commits(self.conn, actor)
            _, more = apply_commits(
                self.conn, self.interner, states[actor], events, self.now
            )
            stats.merge(more)
        clear_commits(self.conn, *buffered)

    def _save(
        self, taken: dict[int, FetchedRepo], states: dict[int, RepoState]
    ) -> None:
        order = sorted(taken)
        settle_repos(self.conn, [(states[actor], taken[actor].host) for actor in order])
        if self.rebroadcast:
            frames = [
                sync_frame_of(taken[actor].did, states[actor], self.now)
                for actor in order
            ]
            event_log.append(self.conn, frames)


def _tree_drops(actor: int, drops: Sequence[DroppedOp]) -> list[Dropped]:
    return [
        (actor, drop.path.encode("utf-8", "surrogateescape"), drop.cid, drop.reason)
        for drop in drops
        if drop.cid is not None
    ]


_CHOOSE: Final = """
    SELECT actor,
        state = 'resyncing' AND pg_try_advisory_xact_lock(%s, actor)
            AND NOT EXISTS (SELECT FROM record WHERE record.actor = repo.actor),
        rev
    FROM repo WHERE actor = ANY(%s::int4[])
"""
