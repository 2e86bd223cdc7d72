"""One pass of a matcher over drained records, for all kinds of standing queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from search.documents import RecordDocument
from search.matches.matcher import Condition, Matcher
from search.query.nodes import Query
from storage.postgres.pool import Conn
from storage.records.addresses import Address


@dataclass(frozen=True, slots=True)
class DrainedRecords:
    """The records of one batch of the drain.

    `new` are those of `records` that were written now, or lately in a fetched repo.
    `deleted` records and all of the accounts in `gone` have left the index.
    """

    records: Sequence[RecordDocument]
    new: Sequence[RecordDocument]
    deleted: Sequence[Address] = ()
    gone: Sequence[int] = ()


LogMatches = Callable[[Conn, DrainedRecords], None]
"""Logs the queries that find records, in the transaction of the drain."""
Found = Sequence[tuple[int, RecordDocument]]


class QueryList(Protocol):
    """A matcher, or the part of one that holds the queries of one kind."""

    def put(
        self,
        number: int,
        query: Query,
        collections: Iterable[str],
        also: Condition | None = None,
    ) -> None:
        """Add or replace a query."""

    def remove(self, number: int) -> None:
        """Forget a query, if it is known."""


class StandingQueries(Protocol):
    """Queries of one kind, which put themselves into a list.

    With `only_new`, other records than the new ones are not matched.
    """

    only_new: bool

    def __len__(self) -> int:
        """Return the number of queries."""

    def refresh(self) -> None:
        """Read the changes of queries since the last time."""

    def take(self, conn: Conn, drained: DrainedRecords, found: Found) -> None:
        """Write down pairs of a query and a record, in order. Does not commit."""


class _Part:
    """The queries of one kind in a shared matcher: every n-th number is theirs."""

    def __init__(self, matcher: Matcher, place: int, parts: int) -> None:
        self._matcher = matcher
        self._place = place
        self._parts = parts

    def put(
        self,
        number: int,
        query: Query,
        collections: Iterable[str],
        also: Condition | None = None,
    ) -> None:
        self._matcher.put(self._number(number), query, collections, also)

    def remove(self, number: int) -> None:
        self._matcher.remove(self._number(number))

    def _number(self, number: int) -> int:
        return number * self._parts + self._place


class MatchPass:
    """Standing queries of several kinds, matched together.

    For one thread at a time, as the drain is.
    """

    def __init__(self, *kinds: Callable[[QueryList], StandingQueries]) -> None:
        self._matcher = Matcher()
        self._kinds = [
            make(_Part(self._matcher, place, len(kinds)))
            for place, make in enumerate(kinds)
        ]

    def log_matches(self, conn: Conn, drained: DrainedRecords) -> None:
        """Write down the queries that find these records. Does not commit."""
        for kind in self._kinds:
            kind.refresh()
        found: list[list[tuple[int, RecordDocument]]] = [[] for _ in self._kinds]
        new = {document.address for document in drained.new}
        for document in self._records(drained):
            for number in self._matcher.match(document):
                place = number % len(self._kinds)
                if document.address in new or not self._kinds[place].only_new:
                    found[place].append((number // len(self._kinds), document))
        for kind, pairs in zip(self._kinds, found, strict=True):
            kind.take(conn, drained, pairs)

    def _records(self, drained: DrainedRecords) -> Sequence[RecordDocument]:
        if any(len(kind) for kind in self._kinds if not kind.only_new):
            return drained.records
        return drained.new
