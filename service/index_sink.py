"""The crawler's sink, with the indexer behind it: where reading and writing meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg.errors import LockNotAvailable

from indexer.account import purge_deleted
from indexer.apply import apply_batch
from indexer.identity import save_handles
from indexer.repos.checkout import (
    Checkout,
    CheckoutBusyError,
    CheckoutResult,
    StaleCheckoutError,
)
from indexer.repos.repo_batch import BatchChangedError, FetchedRepo, import_fresh
from indexer.repos.repo_diff import DiffMismatchError, apply_diff
from indexer.repos.scope_removal import remove_outside
from indexer.repos.selected import keep_wanted
from protocol.errors import DesynchronizedError, ProtocolError
from protocol.events.event import DroppedOp, Event
from protocol.repo.repo_diff import RepoDiff
from protocol.repo.whole_repo import RepoHead, RepoRecord
from protocol.syntax.did import Did
from protocol.syntax.handle import Handle
from protocol.syntax.tid import Tid
from storage.postgres.pool import Pool
from storage.records.interning import Interner


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """Result of a batch; see `crawler.sink.Applied`."""

    applied: int
    desynchronized: Sequence[Did]


class IndexSink:
    """Applies events and whole repos to the index; see `crawler.sink.Sink`.

    `interner` must have a pool of its own. `on_written` is called after each
    transaction that may have left search documents to write, or events to number:
    with `rebroadcast` what is applied also goes to the event log. Cursors are those of
    `shard`.
    """

    def __init__(
        self,
        pool: Pool,
        interner: Interner,
        on_written: Callable[[], None],
        *,
        rebroadcast: bool = False,
        shard: int = 0,
    ) -> None:
        self._pool = pool
        self._interner = interner
        self._on_written = on_written
        self._rebroadcast = rebroadcast
        self._shard = shard

    def apply(
        self, events: Sequence[Event], cursors: Mapping[int, int]
    ) -> BatchOutcome:
        """Apply a batch and save the cursors with the last of it."""
        with self._pool.connection() as conn:
            now = datetime.now(UTC)
            result = apply_batch(
                conn,
                self._interner,
                events,
                cursors,
                now,
                shard=self._shard,
                rebroadcast=self._rebroadcast,
            )
        self._on_written()
        return BatchOutcome(result.applied, [Did(did) for did in result.desynchronized])

    @contextmanager
    def checkout(
        self, did: Did, host: int, selection: int | None = None
    ) -> Iterator[IndexImport]:
        """Import a repo; leaving without `finish` undoes everything."""
        with self._pool.connection() as conn:
            try:
                with Checkout(
                    conn,
                    self._interner,
                    did,
                    host,
                    selection=selection,
                    rebroadcast=self._rebroadcast,
                ) as checkout:
                    yield IndexImport(checkout)
            except CheckoutBusyError as error:
                # Nobody's fault: like any other lock, it is tried again later.
                raise LockNotAvailable(f"{did} is being imported") from error
        self._on_written()

    def update_repo(self, did: Did, host: int, since: Tid, diff: RepoDiff) -> bool:
        """Take a repo forward by what changed; see `crawler.sink.Sink`."""
        try:
            with self._pool.connection() as conn:
                apply_diff(
                    conn,
                    self._interner,
                    did,
                    host,
                    since,
                    diff,
                    datetime.now(UTC),
                    rebroadcast=self._rebroadcast,
                )
        except (DiffMismatchError, StaleCheckoutError):
            return False
        self._on_written()
        return True

    def import_repos(self, repos: Sequence[FetchedRepo]) -> dict[Did, Exception]:
        """Import small repos, those we hold nothing of in one transaction."""
        rest: Sequence[FetchedRepo] = repos
        try:
            with self._pool.connection() as conn:
                now = datetime.now(UTC)
                rest = import_fresh(
                    conn, self._interner, repos, now, rebroadcast=self._rebroadcast
                )
            self._on_written()
        except (BatchChangedError, psycopg.Error, ProtocolError):
            # Something of one of them: alone, each tells for itself.
            pass
        failed: dict[Did, Exception] = {}
        for repo in rest:
            try:
                with self.checkout(repo.did, repo.host, repo.selection) as importing:
                    importing.add(repo.records)
                    importing.drop(repo.drops)
                    importing.finish(repo.head)
            except (DesynchronizedError, ProtocolError, psycopg.Error) as error:
                failed[repo.did] = error
        return failed

    def set_handle(self, did: Did, handle: Handle | None) -> None:
        """Store a handle that was verified both ways, or that there is none."""
        actor = self._interner.actors([did])[did]
        with self._pool.connection() as conn:
            save_handles(conn, {actor: handle}, datetime.now(UTC))
        self._on_written()

    def purge_deleted(self, limit: int) -> int:
        """Remove the rows of up to `limit` deleted accounts; how many records went."""
        with self._pool.connection() as conn:
            now = datetime.now(UTC)
            return purge_deleted(conn, self._interner, now, limit=limit)

    def remove_outside(self, dids: Sequence[str]) -> int:
        """Remove those of these accounts that do not belong to the scope; how many
        records went."""
        removed = 0
        for did in dids:
            with self._pool.connection() as conn:
                now = datetime.now(UTC)
                removed += remove_outside(conn, self._interner, did, now)
            self._on_written()
        return removed

    def keep_wanted(self, dids: Sequence[str]) -> int:
        """Bring these repos to what is to be kept of them; how many records went."""
        removed = 0
        for did in dids:
            with self._pool.connection() as conn:
                now = datetime.now(UTC)
                removed += keep_wanted(conn, self._interner, did, now)
        self._on_written()
        return removed


class IndexImport:
    """One whole repo on its way in; see `crawler.sink.RepoImport`."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout

    def add(self, records: Sequence[RepoRecord]) -> None:
        """Take the next records, in any order."""
        self._checkout.add(records)

    def drop(self, drops: Sequence[DroppedOp]) -> None:
        """Take what is in the tree but cannot be kept."""
        self._checkout.drop(drops)

    def finish(self, head: RepoHead) -> CheckoutResult:
        """Replace what is held with what was added; DesynchronizedError if stale."""
        try:
            return self._checkout.finish(head)
        except StaleCheckoutError as error:
            raise DesynchronizedError(str(error)) from error
