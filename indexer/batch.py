"""Events of one batch, collapsed to the last change of each record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from indexer import account, identity
from indexer.changes import Change
from indexer.event_frames import frame_of, messages_of
from indexer.recreated_posts import note_posts
from indexer.repos.repo_states import RepoState, lock_repos, save_repos
from indexer.row_writes import apply_changes
from protocol.errors import InvalidSyntaxError
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent, CommitEvent, Event, RecordOp, SyncEvent
from protocol.mst import EMPTY_ROOT, build_root
from protocol.syntax import parse_path
from storage.collections import FEED_POST
from storage.drops import count_drops, delete_dropped_records, put_dropped_records
from storage.postgres.pool import Conn
from storage.records import event_log
from storage.records.interning import Interner
from storage.records.record_rows import fetch_pieces, find_holders
from storage.records.stats import StatsChange
from storage.repos.account_status import note_told, told_since
from storage.repos.resync_buffer import put_commits
from storage.states import REPO_DESYNCHRONIZED, REPO_RESYNCING, REPO_SYNCHRONIZED


@dataclass(slots=True)
class BatchResult:
    """Result of a batch: numbers of events, of records written or deleted, and the DIDs
    whose repos must be fetched."""

    applied: int = 0
    ignored: int = 0
    buffered: int = 0
    records: int = 0
    desynchronized: list[str] = field(default_factory=list)
    drops: Counter[DropReason] = field(default_factory=Counter)

    def add(self, other: BatchResult) -> None:
        """Add the result of the next part of the batch."""
        self.applied += other.applied
        self.ignored += other.ignored
        self.buffered += other.buffered
        self.records += other.records
        self.desynchronized += other.desynchronized
        self.drops.update(other.drops)


_Key = tuple[int, str, str]  # actor, collection, record key
_Path = tuple[int, bytes]  # actor, tree key


class Batch:
    """Events of one batch; of several changes of one record only the last counts."""

    def __init__(
        self, interner: Interner, now: datetime, *, rebroadcast: bool = False
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
        self._rebroadcast = rebroadcast
        self._outgoing: list[bytes] = []
        self._messages: list[int] = []

    def intern(self, events: Sequence[Event]) -> None:
        """Intern all names of the events, in transactions of their own."""
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

    def lock(self, conn: Conn, events: Sequence[Event]) -> None:
        """Lock the repos of the batch; create those that a commit starts."""
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
        """Return True if a first commit may start this repo.

        An interrupted removal leaves no revision but records, which only a fetch
        removes.
        """
        return repo.rev is None and actor not in self._leftovers

    def _take_sync(self, actor: int, event: SyncEvent) -> None:
        repo = self.repos[actor]
        if not repo.active:
            self._ignore(event, DropReason.INACTIVE_ACCOUNT)
        elif repo.rev is not None and event.rev <= repo.rev:
            if event.rev == repo.rev and event.data != repo.data:
                self._desynchronize(repo, event, "one revision with two trees")
            else:
                self.result.ignored += 1
        elif repo.data == event.data and repo.state == REPO_SYNCHRONIZED:
            repo.advance(event.rev, event.data, event.commit)
            self._note_applied(event)
        else:
            self._desynchronize(repo, event, "the host announced another tree")

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
                    # A running fetch may be older than this event.
                    repo.upstream_rev = None
                    repo.changed = True
                if repo.active and repo.state != REPO_DESYNCHRONIZED:
                    # Commits were ignored while it was inactive, buffered ones too.
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
                # A create after a delete in this batch replaces an older record.
                if op.action == "create" and key not in self._values:
                    self._created.add(key)
                self._values[key] = op
        for drop in drops:
            self._drop_counts[drop.reason, event.host] += 1
            self.result.drops[drop.reason] += 1
            parsed = _parse_path(drop.path)
            if parsed is not None:
                # A dropped update still removes the previous record.
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
        if self._rebroadcast:
            frame = frame_of(event, self._now)
            self._outgoing.append(frame)
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

    def write(self, conn: Conn) -> StatsChange:
        """Write everything except the changed counts, which are returned."""
        stats = self._write_records(conn)
        self._keep_buffered(conn)
        account.save_statuses(conn, self._statuses)
        note_told(conn, sorted(self._told))
        identity.mark_stale(conn, self._identities)
        save_repos(conn, self.repos.values())
        count_drops(conn, self._drop_counts)
        event_log.append(conn, self._outgoing, self._messages)
        return stats

    def _keep_buffered(self, conn: Conn) -> None:
        full = set(put_commits(conn, self._buffered))
        for actor, event in self._buffered:
            if actor in full:
                repo = self.repos[actor]
                repo.note_upstream(event.rev)
                repo.desynchronize("too many commits during the fetch")

    def _write_records(self, conn: Conn) -> StatsChange:
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
                    # In its tree but not here: it was dropped earlier.
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
    """Return the reason why a commit does not follow from our state, None if it does.

    `since` is not signed: without it nothing is compared. One that names another
    revision proves a commit that we never saw (specs/sync).
    """
    if event.prev_data is None:
        return "the commit has no prevData"
    if event.prev_data != repo.data:
        return "prevData is not the root we hold"
    if event.since is not None and event.since != repo.rev:
        return "since is not the revision we hold"
    return None


def _is_first_commit(event: CommitEvent) -> bool:
    """Return True if a commit is the first of its repo: its tree holds exactly what it
    creates.

    A commit without `prev_data` is not first, even of an empty tree: its frame would be
    rebroadcast unproven.
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
