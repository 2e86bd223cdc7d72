"""Where verified events go. The indexer is behind it, but the crawler never says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from indexer.repos.repo_batch import FetchedRepo
from protocol.events.event import DroppedOp, Event
from protocol.repo.repo_diff import RepoDiff
from protocol.repo.whole_repo import RepoHead, RepoRecord
from protocol.syntax.did import Did
from protocol.syntax.handle import Handle
from protocol.syntax.tid import Tid


class Applied(Protocol):
    """What became of a batch."""

    @property
    def applied(self) -> int:
        """Events whose effect is now in the database."""

    @property
    def desynchronized(self) -> Sequence[Did]:
        """Repos that must be fetched: their chain is broken."""


class RepoImport(Protocol):
    """One whole repo on its way in; nothing of it is seen before `finish`."""

    def add(self, records: Sequence[RepoRecord]) -> None:
        """Take the next records, in any order."""

    def drop(self, drops: Sequence[DroppedOp]) -> None:
        """Take what is in the tree but cannot be kept."""

    def finish(self, head: RepoHead) -> Any:
        """Replace what is held with what was added, deletes included, and commit.

        Raises DesynchronizedError when `head` is older than what is held.
        """


class Sink(Protocol):
    """Takes events in order and whole repos, each in one transaction. Threads may
    call it at the same time; calls block."""

    def apply(self, events: Sequence[Event], cursors: Mapping[int, int]) -> Applied:
        """Apply a batch and save the cursors (host id -> seq) with the last of it.

        Applying the same batch twice is as good as once. Raises psycopg.Error; then
        the cursors are not saved, and it can be applied again.
        """

    def checkout(
        self, did: Did, host: int, selection: int | None = None
    ) -> AbstractContextManager[RepoImport]:
        """Import a whole repo, or all of the collections of a selection
        (storage.repos.selections). Leaving without `finish` undoes everything."""

    def update_repo(self, did: Did, host: int, since: Tid, diff: RepoDiff) -> bool:
        """Take a claimed repo that stands at `since` forward by what changed; False,
        and nothing has happened, when the whole of it must be fetched instead."""

    def import_repos(self, repos: Sequence[FetchedRepo]) -> Mapping[Did, Exception]:
        """Import repos, many in one transaction where that can be done; return
        those that failed, each alone, with what `checkout` would have raised."""

    def set_handle(self, did: Did, handle: Handle | None) -> None:
        """Store a handle that was verified both ways, or that there is none."""
