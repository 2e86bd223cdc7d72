"""A batch of verified events -> one transaction: rows, counts, outbox, repo states and
cursors together, or nothing. One that makes very much is more, the cursors in the last.

Checked here, against the state that is locked: that a commit follows from the one
before (its rev is higher, its prev_data is our data). Not checked here: signatures,
trees, hashes; events are verified before they come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import psycopg

from indexer import account, identity
from indexer.batch_parts import parts_of
from indexer.changes import Change, apply_changes
from indexer.event_frames import frame_of, messages_of
from indexer.recreated_posts import note_posts
from indexer.repos.repo_states import RepoState, lock_repos, save_repos
from indexer.transaction import retry_conflicts, whole_transaction
from protocol.errors import InvalidSyntaxError
from protocol.events.drops import DropReason
from protocol.events.event import (
    AccountEvent,
    CommitEvent,
    Event,
    RecordOp,
    SyncEvent,
)
from protocol.mst import EMPTY_ROOT, build_root
from protocol.syntax import parse_path
from storage.collections import FEED_POST
from storage.cursors import save_cursors
from storage.drops import (
    count_drops,
    delete_dropped_records,
    put_dropped_records,
)
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.records import event_log
from storage.records.interning import Interner
from storage.records.record_rows import fetch_pieces, find_holders
from storage.records.stats import StatsChange, apply_stats
from storage.repos.account_status import note_told, told_since
from storage.repos.resync_buffer import put_commits
from storage.states import REPO_DESYNCHRONIZED, REPO_RESYNCING, REPO_SYNCHRONIZED


@dataclass(slots=True)
class BatchResult:
    """What became of a batch. Numbers are events; `records` is records written or
    deleted; `desynchronized` are DIDs whose repo must be fetched."""

    applied: int = 0
    ignored: int = 0
    buffered: int = 0
    records: int = 0
    desynchronized: list[str] = field(default_factory=list)
    drops: Counter[DropReason] = field(default_factory=Counter)

    def add(self, other: BatchResult) -> None:
        """Add what became of the next part of the batch."""
        self.applied += other.applied
        self.ignored += other.ignored
        self.buffered += other.buffered
        self.records += other.records
        self.desynchronized += other.desynchronized
        self.drops.update(other.drops)


def apply_batch(
    conn: psycopg.Connection[Any],
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
    conn: psycopg.Connection[Any],
    interner: Interner,
    events: Sequence[Event],
    cursors: Mapping[int, int],
    now: datetime,
    shard: int,
    send_on: bool,
) -> BatchResult:
    batch = _Batch(interner, now, send_on=send_on)
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
    conn: psycopg.Connection[Any],
    interner: Interner,
    repo: RepoState,
    events: Sequence[CommitEvent],
    now: datetime,
) -> tuple[BatchResult, StatsChange]:
    """Apply buffered commits of one repo that the caller's transaction has locked.

    The changes of the counts are returned, for the caller to apply with its own.
    """
    batch = _Batch(interner, now)
    batch.intern(events)
    batch.repos[repo.actor] = repo
    for event in events:
        batch.take(event)
    stats = batch.write(conn)
    return batch.result, stats


def plan_for_probes(conn: psycopg.Connection[Any]) -> None:
    """For the rest of the transaction, join by index probes: a batch touches a few
    rows of large tables, whatever the planner's statistics say."""
    conn.execute(
        "SELECT set_config('enable_hashjoin', 'off', true),"
        " set_config('enable_mergejoin', 'off', true),"
        " set_config('enable_seqscan', 'off', true)"
    )


_Key = tuple[int, str, str]  # actor, collection, record key
_Path = tuple[int, bytes]  # actor, tree key


class _Batch:
    """Events of one batch, collapsed: of changes of one record only the last counts."""

    def __init__(
        self, interner: Interner, now: datetime, *, send_on: bool = False
    ) -> None:
        self.result = BatchResult()
        self.repos: dict[int, RepoState] = {}
        self.actors: dict[str, int] = {}
        self._interner = interner
        self._now = now
        self._nsids: dict[str, int] = {}
        self._rkeys: dict[str, int] = {}
        self._values: dict[_Key, RecordOp | None] = {}
        self._created: set[_Key] = set()
        self._ended: set[_Key] = set()
        self._dropped: dict[_Path, tuple[bytes, DropReason] | None] = {}
        self._buffered: list[tuple[int, CommitEvent]] = []
        self._statuses: dict[int, str] = {}
        self._told: set[int] = set()
        self._overtaken: set[int] = set()
        self._leftovers: set[int] = set()
        self._identities: dict[int, str] = {}
        self._drop_counts: Counter[tuple[str, int]] = Counter()
        self._send_on = send_on
        self._sent_on: list[bytes] = []
        self._messages: list[int] = []

    def intern(self, events: Sequence[Event]) -> None:
        """Numbers for all names of the events, in transactions of their own."""
        self.actors = self._interner.actors({event.did for event in events})
        nsids: set[str] = set()
        rkeys: set[str] = set()
        for event in events:
            if type(event) is CommitEvent:
                for op in event.ops:
                    nsids.add(op.collection)
                    rkeys.add(op.rkey)
                for drop in event.drops:
                    parsed = _parse_path(drop.path)
                    if parsed is not None:
                        nsids.add(parsed[0])
                        rkeys.add(parsed[1])
        self._nsids = self._interner.collections(nsids)
        self._rkeys = self._interner.rkeys(rkeys)

    def lock(self, conn: psycopg.Connection[Any], events: Sequence[Event]) -> None:
        """Lock the repos of the batch, and make those that a commit begins."""
        hosts: dict[int, int | None] = {}
        for event in events:
            actor = self.actors[event.did]
            if isinstance(event, CommitEvent | SyncEvent):
                hosts[actor] = event.host or None
            else:
                hosts.setdefault(actor, None)
        begun = {
            self.actors[event.did]
            for event in events
            if isinstance(event, CommitEvent | SyncEvent)
        }
        self.repos = lock_repos(conn, hosts, begun)
        begins = {
            self.actors[event.did]
            for event in events
            if type(event) is CommitEvent and event.prev_data == EMPTY_ROOT
        }
        empty = [actor for actor in begins if self.repos[actor].rev is None]
        self._leftovers = find_holders(conn, empty) if empty else set()
        self._overtaken = told_since(
            conn,
            {
                self.actors[event.did]: event.asked_at
                for event in events
                if type(event) is AccountEvent and event.asked_at is not None
            },
        )

    def take(self, event: Event) -> None:
        """Decide on one event."""
        actor = self.actors[event.did]
        if type(event) is CommitEvent:
            self._take_commit(actor, event)
        elif type(event) is SyncEvent:
            self._take_sync(actor, event)
        elif type(event) is AccountEvent:
            self._take_account(actor, event)
        else:
            self._identities[actor] = event.did
            self._note_applied(event)

    def _take_commit(self, actor: int, event: CommitEvent) -> None:
        repo = self.repos[actor]
        if not repo.active:
            self._ignore(event, DropReason.INACTIVE_ACCOUNT)
        elif repo.rev is not None and event.rev <= repo.rev:
            self._ignore(event, DropReason.STALE_REV)
        elif repo.state == REPO_RESYNCING:
            self._buffered.append((actor, event))
            self.result.buffered += 1
        elif repo.state == REPO_SYNCHRONIZED:
            broken = _broken_link(repo, event)
            if broken is None:
                self._apply(actor, repo, event)
            else:
                self._desynchronize(repo, event, broken)
        elif self._is_empty(actor, repo) and _is_first_commit(event):
            self._apply(actor, repo, event)
        else:
            repo.note_upstream(event.rev)
            self._ignore(event, DropReason.DESYNCHRONIZED)

    def _is_empty(self, actor: int, repo: RepoState) -> bool:
        """Whether a first commit may begin it. One of which the removal was broken off
        has no revision, but records that only a fetch takes away."""
        return repo.rev is None and actor not in self._leftovers

    def _take_sync(self, actor: int, event: SyncEvent) -> None:
        repo = self.repos[actor]
        if not repo.active:
            self._ignore(event, DropReason.INACTIVE_ACCOUNT)
        elif repo.rev is not None and event.rev <= repo.rev:
            if event.rev == repo.rev and event.data != repo.data:
                self._desynchronize(repo, event, "one revision, two trees")
            else:
                self.result.ignored += 1
        elif repo.data == event.data and repo.state == REPO_SYNCHRONIZED:
            repo.advance(event.rev, event.data, event.commit)
            self._note_applied(event)
        else:
            self._desynchronize(repo, event, "the host tells of another tree")

    def _take_account(self, actor: int, event: AccountEvent) -> None:
        if event.asked_at is not None and actor in self._overtaken:
            self.result.ignored += 1
            return
        self._told.add(actor)
        status = account.upstream_status(event.active, event.status)
        repo = self.repos.get(actor)
        before = self._statuses.get(actor)
        if before is None and repo is not None:
            before = repo.status
        if before != status:
            self._statuses[actor] = status
            if repo is not None:
                repo.status = status
                if repo.active and repo.state != REPO_SYNCHRONIZED:
                    # A fetch that is under way may be older than that.
                    repo.upstream_rev = None
                    repo.changed = True
                if repo.active and repo.state != REPO_DESYNCHRONIZED:
                    # Commits were ignored while it was away, those kept for the end
                    # of a fetch among them.
                    repo.desynchronize("the account is active again")
                    self.result.desynchronized.append(event.did)
        self._note_applied(event)

    def _apply(self, actor: int, repo: RepoState, event: CommitEvent) -> None:
        ops, drops = event.ops, event.drops
        if repo.keeps is not None:
            ops, drops = event.within(repo.keeps)
        for op in ops:
            key = (actor, op.collection, op.rkey)
            if op.action == "delete":
                self._values[key] = None
                self._ended.add(key)
            else:
                # What is created in a place that the batch made free was there before.
                if op.action == "create" and key not in self._values:
                    self._created.add(key)
                self._values[key] = op
        for drop in drops:
            self._drop_counts[drop.reason, event.host] += 1
            self.result.drops[drop.reason] += 1
            parsed = _parse_path(drop.path)
            if parsed is not None:
                # An update that cannot be kept still ends the record before it.
                self._values[actor, *parsed] = None
            self._dropped[actor, _tree_key(drop.path)] = (
                None if drop.cid is None else (drop.cid, drop.reason)
            )
        for op in ops:
            path = (actor, f"{op.collection}/{op.rkey}".encode())
            if path in self._dropped:
                self._dropped[path] = None
        repo.advance(event.rev, event.data, event.commit)
        self._note_applied(event)

    def _note_applied(self, event: Event) -> None:
        self.result.applied += 1
        if self._send_on:
            frame = frame_of(event, self._now)
            self._sent_on.append(frame)
            self._messages.append(messages_of(event, frame))

    def _desynchronize(
        self, repo: RepoState, event: CommitEvent | SyncEvent, why: str
    ) -> None:
        repo.note_upstream(event.rev)
        if repo.state != REPO_DESYNCHRONIZED:
            repo.desynchronize(why)
            self.result.desynchronized.append(event.did)
        self._ignore(event, DropReason.DESYNCHRONIZED)

    def _ignore(self, event: CommitEvent | SyncEvent, reason: DropReason) -> None:
        self._drop_counts[reason, event.host] += 1
        self.result.drops[reason] += 1
        self.result.ignored += 1

    def write(self, conn: psycopg.Connection[Any]) -> StatsChange:
        """Send everything the batch came to, but for the counts it changes."""
        stats = self._write_records(conn)
        self._keep_buffered(conn)
        account.save_statuses(conn, self._statuses)
        note_told(conn, sorted(self._told))
        identity.mark_stale(conn, self._identities)
        save_repos(conn, self.repos.values())
        count_drops(conn, self._drop_counts)
        event_log.append(conn, self._sent_on, self._messages)
        return stats

    def _keep_buffered(self, conn: psycopg.Connection[Any]) -> None:
        full = set(put_commits(conn, self._buffered))
        for actor, event in self._buffered:
            if actor in full:
                repo = self.repos[actor]
                repo.note_upstream(event.rev)
                repo.desynchronize("too many commits came while it was fetched")

    def _write_records(self, conn: psycopg.Connection[Any]) -> StatsChange:
        nsids, rkeys = self._nsids, self._rkeys
        addresses = [(key[0], nsids[key[1]], rkeys[key[2]]) for key in self._values]
        ended = {(a, rkeys[rkey]) for a, nsid, rkey in self._ended if nsid == FEED_POST}
        values = iter(self._values.items())
        stats = StatsChange()
        for piece, old in fetch_pieces(conn, addresses):
            changes: list[Change] = []
            ours = islice(values, len(piece))
            for address, (key, op) in zip(piece, ours, strict=True):
                value = fields = None
                if op is not None:
                    value, fields = op.value, op.fields
                before = old.get(address)  # type: ignore[call-overload]
                if before is None and key not in self._created:
                    # Its tree had it and we did not: it was dropped then.
                    path = (key[0], f"{key[1]}/{key[2]}".encode())
                    self._dropped.setdefault(path, None)
                if before != value:
                    changes.append(Change(*address, key[1], before, value, fields))
            stats.merge(apply_changes(conn, self._interner, changes, self._now))
            stats.merge(note_posts(conn, changes, ended))
            self.result.records += len(changes)
        gone = [path for path, drop in self._dropped.items() if drop is None]
        delete_dropped_records(conn, gone)
        kept = [
            (actor, path, drop[0], drop[1].value)
            for (actor, path), drop in self._dropped.items()
            if drop is not None
        ]
        put_dropped_records(conn, kept)
        return stats


def _broken_link(repo: RepoState, event: CommitEvent) -> str | None:
    """Why a proven commit does not follow from the state we hold, None if it does.

    `since` is not signed, and one that is left out says nothing; one that names
    another revision tells of a commit that we never saw (specs/sync).
    """
    if event.prev_data is None:
        return "the commit has no prevData"
    if event.prev_data != repo.data:
        return "prevData is not the root we hold"
    if event.since is not None and event.since != repo.rev:
        return "since is not the revision we hold"
    return None


def _is_first_commit(event: CommitEvent) -> bool:
    """Whether a commit is the first of its repo: its tree holds what it creates and
    nothing else, which is proven here and not taken from its word.

    One without `prev_data` is none, even of an empty tree: nothing is known of what its
    frame says, which would be sent on.
    """
    if event.since is not None or event.prev_data != EMPTY_ROOT:
        return False
    items: list[tuple[bytes, bytes]] = []
    for op in event.ops:
        if op.action != "create" or op.cid is None:
            return False
        items.append((f"{op.collection}/{op.rkey}".encode(), op.cid))
    for drop in event.drops:
        if drop.cid is None:
            return False
        items.append((_tree_key(drop.path), drop.cid))
    return build_root(sorted(items)) == event.data


def _tree_key(path: str) -> bytes:
    # A path that is not UTF-8 comes with its bytes escaped (PEP 383).
    return path.encode("utf-8", "surrogateescape")


def _parse_path(path: str) -> tuple[str, str] | None:
    try:
        return parse_path(path)
    except InvalidSyntaxError:
        return None
