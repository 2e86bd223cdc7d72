"""The interface of search engines.

An engine holds a copy of what is in Postgres and may be wiped and filled at any time.
It answers with addresses; what is shown is read from Postgres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from search.documents import Document
from search.query.nodes import Query
from storage.records.addresses import Address


@dataclass(frozen=True, slots=True)
class RecordHit:
    """A found record; the next page begins after its `keyset`."""

    address: Address
    keyset: list[Any]


@dataclass(frozen=True, slots=True)
class ActorHit:
    """A found account; the next page begins after its `keyset`."""

    actor: int
    keyset: list[Any]


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Found records, best first.

    `total` is the number of all matches, exact or estimated, None if unknown.
    `mended` pairs each misspelt word with the word that was searched.
    """

    hits: list[RecordHit]
    total: int | None = None
    mended: tuple[tuple[str, str], ...] = ()


class TooCostlyError(Exception):
    """The query takes longer than a request may."""


class EngineUnavailableError(TooCostlyError):
    """The engine does not answer, or answers with an error."""


class ServerError(EngineUnavailableError):
    """An error reply of an engine's server; `code` is the server's own."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The contents of an engine, for the status page.

    `detail` is what its operator should know: version, slices, a rebuild under way.
    `failure` is the last error, until a write succeeds.
    """

    name: str
    records: int
    actors: int
    newest: datetime | None
    healthy: bool = True
    detail: str = ""
    failure: str = ""


class SearchEngine(Protocol):
    """A search engine.

    `conn` is the transaction of the drain: an engine inside Postgres writes through it.
    An `external` engine gets no connection: the drain commits before it writes, and
    `put` and `delete` return when the documents can be found.
    """

    name: str
    external: bool

    def put(self, conn: Any, documents: Sequence[Document]) -> None:
        """Insert or replace documents."""

    def delete(
        self, conn: Any, addresses: Sequence[Address], actors: Sequence[int]
    ) -> None:
        """Remove records, and accounts with all their records; unknown ones are no
        error."""

    def clear(self, conn: Any) -> None:
        """Forget everything (before a rebuild)."""

    def search_records(
        self,
        query: Query,
        *,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None = None,
    ) -> RecordPage:
        """Return matching records of these collections.

        `after` is the keyset of the hit before. Fewer hits than `limit` are the last.
        The first hits match every word; records that match less may follow. Raises
        TooCostlyError.
        """

    def search_actors(
        self,
        text: str,
        *,
        limit: int,
        after: list[Any] | None = None,
        follows: Sequence[int] = (),
    ) -> list[ActorHit]:
        """Return accounts by handle, name or description.

        The account that is named exactly comes first, then those of `follows`, then
        the most followed. `after` and `limit` as for records.
        """

    def typeahead(
        self,
        text: str,
        *,
        limit: int,
        after: list[Any] | None = None,
        follows: Sequence[int] = (),
    ) -> list[ActorHit]:
        """Return accounts whose handle or name begins like `text`, in that order."""

    def stats(self) -> EngineStats:
        """Return counts for the status page."""
