"""The interface that every search engine stands behind.

An engine holds a copy of what is in Postgres: it may be wiped and filled again at any
time. It answers with addresses only; what is shown is always read from Postgres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from search.documents import Document
from search.query import PostQuery
from storage.records.addresses import Address

MAX_LIMIT = 100


@dataclass(frozen=True, slots=True)
class RecordHit:
    """A found record. `keyset` holds plain values: `after` of what comes behind it."""

    address: Address
    keyset: list[Any]


@dataclass(frozen=True, slots=True)
class ActorHit:
    """A found account, and `after` of what comes behind it."""

    actor: int
    keyset: list[Any]


class TooCostlyError(Exception):
    """The query cannot be answered in the time that a request has."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine holds, for the status page."""

    name: str
    records: int
    actors: int
    newest: datetime | None


class SearchEngine(Protocol):
    """Puts, deletes and searches. `conn` is the transaction of the outbox drain: an
    engine inside Postgres writes through it, any other ignores it."""

    name: str

    def put(self, conn: Any, documents: Sequence[Document]) -> None:
        """Insert or replace documents."""

    def delete(
        self, conn: Any, addresses: Sequence[Address], actors: Sequence[int]
    ) -> None:
        """Remove records by address, and accounts with all their records by id;
        unknown ones are no error."""

    def clear(self, conn: Any) -> None:
        """Forget everything (before a rebuild)."""

    def search_records(
        self,
        query: PostQuery,
        *,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None = None,
    ) -> list[RecordHit]:
        """Return matching records of these collections, best first.

        `after` is the keyset of the hit to begin behind. Fewer than `limit` hits: there
        are no more. Raises TooCostlyError.
        """

    def search_actors(
        self, text: str, *, limit: int, after: list[Any] | None = None
    ) -> list[ActorHit]:
        """Return accounts whose handle, name or description match, most followed first.

        `after` and `limit` as for records.
        """

    def typeahead(
        self, text: str, *, limit: int, after: list[Any] | None = None
    ) -> list[ActorHit]:
        """Return accounts whose handle or name begins like `text`, as search_actors."""

    def stats(self) -> EngineStats:
        """Counts for the status page."""
