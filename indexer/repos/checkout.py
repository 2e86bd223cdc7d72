"""Import of a whole repo in one transaction: a crash leaves the old state.

A fresh repo is copied straight into its tables. A stored one is staged, compared as a
set, and changed where it differs, deletes included. While records stream in, only an
advisory lock of the repo is held. Live batches continue: its own commits go to the
resync buffer, because its state is `resyncing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

import psycopg

from indexer.apply import apply_commits, plan_for_probes
from indexer.changes import Prepared
from indexer.repos.import_rows import Addresses, Dropped, prepare_import
from indexer.repos.repo_states import (
    RepoState,
    choose_selections,
    lock_repos,
    save_repos,
)
from indexer.repos.staged_repo import StagedRepo
from indexer.row_writes import apply_changes, write
from protocol.errors import DesynchronizedError, LimitExceededError
from protocol.events.event import DroppedOp
from protocol.events.sequenced_frames import sync_frame, utc_text
from protocol.repo.whole_repo import RepoHead, RepoRecord
from storage.drops import count_drops, delete_dropped_of, put_dropped_records
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.postgres.transaction import whole_transaction
from storage.records import event_log
from storage.records.interning import Interner
from storage.records.stats import StatsChange, StatsPile
from storage.repos.resync_buffer import clear_commits, load_commits
from storage.repos.selections import settle_wanted
from storage.states import REPO_SYNCHRONIZED, STATUS_DELETED

_CHUNK_RECORDS: Final = 2_000
_CHUNK_BYTES: Final = 2_000_000
MAX_DROPPED_RECORDS: Final = 100_000
"""Maximum dropped records of one repo: they are kept in memory, and are rare."""

LOCK_CLASS: Final = 0x726570  # "rep": advisory locks of imports, by actor
OTHER_COLLECTIONS: Final = "other collections are wanted"
_BEHIND_RETRY_S: Final = 30.0
_BEHIND_RETRY_MOST_S: Final = 86_400.0
"""Delays until a repo is fetched again whose host did not serve an announced rev."""


class CheckoutBusyError(Exception):
    """Another worker is importing this repo."""


class StaleCheckoutError(DesynchronizedError):
    """The fetched repo is older than the stored one, or its account is deleted: nothing
    was written."""


@dataclass(frozen=True, slots=True)
class CheckoutResult:
    """Result of an import: `records` of the repo, `changed` ones, and the `buffered`
    commits applied after it. If not `synchronized`, the repo must be fetched again."""

    records: int
    changed: int
    dropped: int
    buffered: int
    synchronized: bool


class Checkout:
    """One whole-repo import, a context manager: leaving without `finish` rolls back.

    With a `selection`, only records of its collections are added, and no others are
    stored afterwards. With `rebroadcast`, the event log gets the repo's new head.
    Raises CheckoutBusyError on entry while another connection imports the same repo.
    """

    def __init__(
        self,
        conn: Conn,
        interner: Interner,
        did: str,
        host: int,
        *,
        selection: int | None = None,
        now: datetime | None = None,
        rebroadcast: bool = False,
    ) -> None:
        self._selection = selection
        self._rebroadcast = rebroadcast
        self._conn = conn
        self._interner = interner
        self._did = did
        self._host = host
        self._now = now or datetime.now(UTC)
        self._exit = ExitStack()
        self._actor = 0
        self._known_rev: str | None = None
        self._staged: StagedRepo | None = None
        self._waiting: list[RepoRecord] = []
        self._waiting_bytes = 0
        self._records = 0
        self._changed = 0
        self._fresh = True
        self._dropped: list[Dropped] = []
        self._addresses = Addresses(interner)
        self._stats = StatsPile(conn)
        self._ready: Prepared | None = None
        self._sender: ThreadPoolExecutor | None = None
        self._sending: Future[StatsChange] | None = None

    def __enter__(self) -> Self:
        self._actor = self._interner.actors([self._did])[self._did]
        conn = self._conn
        with whole_transaction(conn):
            # Live batches see this at once and buffer commits of the repo. A repo that
            # was desynchronized after its claim stays so.
            conn.execute(
                "INSERT INTO repo (actor, host, state, hidden) "
                "SELECT id, %s, 'resyncing', upstream_status <> 'active' "
                "FROM actor WHERE id = %s "
                "ON CONFLICT (actor) DO UPDATE SET state = 'resyncing' "
                "WHERE repo.state <> 'resyncing' AND "
                "(repo.lease_until IS NULL OR repo.upstream_rev IS NOT NULL)",
                (self._host or None, self._actor),
            )
        crashpoint(Crashpoint.CHECKOUT_MARKED)
        with ExitStack() as exit_stack:
            exit_stack.enter_context(conn.transaction())
            self._begin()
            self._exit = exit_stack.pop_all()
        return self

    def _send(self, prepared: Prepared) -> None:
        """Write the previous piece in a thread, while the caller reads on."""
        ready, self._ready = self._ready, prepared
        if ready is None:
            return
        if self._sender is None:
            self._sender = self._exit.enter_context(ThreadPoolExecutor(1))
        self._wait()
        self._sending = self._sender.submit(self._write, ready)

    def _write(self, prepared: Prepared) -> StatsChange:
        fresh, self._fresh = self._fresh, False
        return write(self._conn, prepared, self._now, fresh=fresh)

    def _begin(self) -> None:
        plan_for_probes(self._conn)
        row = self._conn.execute(
            """
            SELECT pg_try_advisory_xact_lock(%s, %s), rev,
                EXISTS (SELECT FROM record WHERE actor = repo.actor)
            FROM repo WHERE actor = %s
            """,
            (LOCK_CLASS, self._actor, self._actor),
        ).fetchone()
        assert row is not None
        locked, self._known_rev, held = row
        if not locked:
            raise CheckoutBusyError(self._did)
        if held:
            self._staged = StagedRepo(self._conn, self._interner, self._actor)

    def add(self, records: Sequence[RepoRecord]) -> None:
        """Add the next records, in the order of the tree."""
        size = sum(len(record.value) for record in records)
        if size > _CHUNK_BYTES and len(records) > 1:
            # A block under many keys comes once for each.
            middle = len(records) // 2
            self.add(records[:middle])
            self.add(records[middle:])
            return
        self._waiting.extend(records)
        self._waiting_bytes += size
        if len(self._waiting) >= _CHUNK_RECORDS or self._waiting_bytes > _CHUNK_BYTES:
            self._send_waiting()

    def drop(self, drops: Sequence[DroppedOp]) -> None:
        """Note records that are in the tree and not kept."""
        for op in drops:
            if op.cid is not None:
                path = op.path.encode("utf-8", "surrogateescape")
                self._dropped.append((self._actor, path, op.cid, op.reason))
        self._bound_drops()

    def finish(self, head: RepoHead) -> CheckoutResult:
        """Replace the stored repo with what was added, apply the buffered commits, and
        commit.

        Raises StaleCheckoutError if `head` is older than the stored one; then nothing
        was written.
        """
        try:
            self._send_waiting()
            self._wait()
            if self._ready is not None:
                self._stats.add(self._write(self._ready))
            crashpoint(Crashpoint.CHECKOUT_STAGED)
            if self._staged is not None:
                self._apply_difference(self._staged)
            crashpoint(Crashpoint.CHECKOUT_COMPARED)
            result = self._end(head)
            crashpoint(Crashpoint.CHECKOUT_SAVED)
        except BaseException as error:
            self._exit.__exit__(type(error), error, error.__traceback__)
            raise
        self._exit.close()
        return result

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            kind, error = psycopg.Rollback, psycopg.Rollback()
        self._exit.__exit__(kind, error, trace)

    def _send_waiting(self) -> None:
        records, self._waiting = self._waiting, []
        self._waiting_bytes = 0
        if not records:
            return
        self._records += len(records)
        self._bound_drops()
        groups = self._addresses.sort(self._actor, records, self._dropped)
        if self._staged is not None:
            self._staged.add(groups)
            return
        pieces = prepare_import(groups, self._interner, self._now, self._dropped)
        for prepared in pieces:
            self._changed += len(prepared.records)
            self._send(prepared)

    def _wait(self) -> None:
        if self._sending is not None:
            sending, self._sending = self._sending, None
            self._stats.add(sending.result())

    def _apply_difference(self, staged: StagedRepo) -> None:
        for changes in staged.differences(self._dropped):
            self._bound_drops()
            self._changed += len(changes)
            done = apply_changes(self._conn, self._interner, changes, self._now)
            self._stats.add(done)

    def _bound_drops(self) -> None:
        if len(self._dropped) > MAX_DROPPED_RECORDS:
            raise LimitExceededError("too many records of the repo were dropped")

    def _end(self, head: RepoHead) -> CheckoutResult:
        conn, actor = self._conn, self._actor
        self._bound_drops()
        delete_dropped_of(conn, actor)
        put_dropped_records(conn, self._dropped)
        repo = lock_repos(conn, {actor: self._host or None}, [actor])[actor]
        if repo.rev != self._known_rev:
            raise StaleCheckoutError("the repo changed during the import")
        if repo.rev is not None and head.rev < repo.rev:
            raise StaleCheckoutError(f"rev {head.rev} is older than {repo.rev}")
        if repo.status == STATUS_DELETED:
            raise StaleCheckoutError("the account is deleted")
        choose_selections(conn, [(repo, self._selection)])
        doubted = repo.doubted
        repo.advance(head.rev, head.data, head.commit)
        events = load_commits(conn, actor)
        if events:
            _, stats = apply_commits(conn, self._interner, repo, events, self._now)
            self._stats.add(stats)
            clear_commits(conn, actor)
            crashpoint(Crashpoint.CHECKOUT_DRAINED)
        if doubted:
            repo.desynchronize("an event came during the fetch")
        settle_repo(conn, repo, self._host)
        if self._rebroadcast and (self._changed or repo.rev != self._known_rev):
            event_log.append(conn, [sync_frame_of(self._did, repo, self._now)])
        drops = Counter((row[3].value, self._host) for row in self._dropped)
        self._stats.apply()
        count_drops(conn, drops)
        return CheckoutResult(
            self._records,
            self._changed,
            len(self._dropped),
            len(events),
            repo.state == REPO_SYNCHRONIZED,
        )


def settle_repo(conn: Conn, repo: RepoState, host: int) -> None:
    """Write the state of one repo after a fetch; see `settle_repos`."""
    settle_repos(conn, [(repo, host)])


def settle_repos(conn: Conn, fetched: Sequence[tuple[RepoState, int]]) -> None:
    """Write the states of repos after a fetch, and end their leases.

    A repo whose host announced a newer rev than it served is fetched again, with a
    growing delay. So is one whose wanted collections changed.
    """
    wanted = settle_wanted(conn)
    for repo, _ in fetched:
        if repo.selection != wanted:
            repo.desynchronize(OTHER_COLLECTIONS)
        told = repo.upstream_rev
        if told is not None and repo.rev is not None and repo.rev < told:
            repo.desynchronize("the host announced a newer rev")
    tries = conn.execute(
        "SELECT actor, tries FROM repo WHERE actor = ANY(%s)",
        ([repo.actor for repo, _ in fetched],),
    )
    before = dict(tries.fetchall())
    save_repos(conn, [repo for repo, _ in fetched])
    rows = [
        (repo.actor, host or None, before[repo.actor] + 1)
        if repo.state != REPO_SYNCHRONIZED
        else (repo.actor, host or None, 0)
        for repo, host in fetched
    ]
    conn.execute(
        """
        UPDATE repo SET lease_until = NULL, host = coalesce(d.host, repo.host),
            tries = d.tries, next_try = now() + make_interval(secs => CASE d.tries
                WHEN 0 THEN 0 ELSE least(%s * 2.0 ^ (d.tries - 1), %s) END)
        FROM unnest(%s::int4[], %s::int4[], %s::int4[]) AS d (actor, host, tries)
        WHERE repo.actor = d.actor
        """,
        (
            _BEHIND_RETRY_S,
            _BEHIND_RETRY_MOST_S,
            *(list(c) for c in zip(*rows, strict=True)),
        ),
    )


def sync_frame_of(did: str, repo: RepoState, now: datetime) -> bytes:
    """Return a `#sync` frame: the repo is at this head, by no chain of commits."""
    assert repo.rev is not None
    assert repo.commit is not None
    return sync_frame(did, repo.rev, repo.commit, utc_text(now))
