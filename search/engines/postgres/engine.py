"""The `postgres` engine: its interface and its writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from search.documents import ActorDocument, Document, RecordDocument
from search.engines.contract import ActorHit, EngineStats, RecordPage
from search.engines.postgres.account_index import AccountSearch
from search.engines.postgres.frequencies import Frequencies, WordCounter
from search.engines.postgres.reading import open_reading
from search.engines.postgres.records import RecordSearch
from search.engines.postgres.slices import (
    CAPS,
    Row,
    add_counts,
    clear_slices,
    put_rows,
    remove_authors,
    remove_rows,
)
from search.engines.postgres.vectors import (
    actor_vector,
    count_lexemes,
    record_vector,
)
from search.engines.spelling import NAME
from search.query.nodes import Query
from storage.postgres.arrays import int_array, text_array
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn, Pool
from storage.records.addresses import Address


@dataclass(slots=True)
class PostgresEngine:
    """The engine; `search.engines.contract.SearchEngine` documents its methods.

    `caps` are the sizes of the time slices.
    """

    pool: Pool
    name: str = "postgres"
    external: bool = False
    caps: tuple[int, ...] = CAPS
    _words: WordCounter = field(default_factory=WordCounter)
    _frequencies: Frequencies = field(default_factory=Frequencies)

    def put(self, conn: Conn, documents: Sequence[Document]) -> None:
        """Insert or replace documents."""
        records = {d.address: d for d in documents if isinstance(d, RecordDocument)}
        actors = {d.actor: d for d in documents if isinstance(d, ActorDocument)}
        if records:
            vectors = [record_vector(d) for d in records.values()]
            rows = [
                Row(d.address, d.sort_at, tsv)
                for d, (tsv, _) in zip(records.values(), vectors, strict=True)
            ]
            removed = put_rows(conn, rows, self.caps)
            counts = count_lexemes(lexemes for _, lexemes in vectors)
            self._words.add(counts, len(rows))
            self._words.add(removed, 0, -1)
        if actors:
            self._put_actors(conn, [*actors.values()])
        self._flush(conn)

    def _put_actors(self, conn: Conn, actors: Sequence[ActorDocument]) -> None:
        self._remove_actors(conn, [d.actor for d in actors])
        vectors = [actor_vector(d) for d in actors]
        conn.execute(
            """
            INSERT INTO search_actor (actor, handle, tsv)
            SELECT * FROM unnest(%s::int4[], %s::text[], %s::tsvector[])
            """,
            (
                int_array(d.actor for d in actors),
                text_array(d.handle for d in actors),
                text_array(tsv for tsv, _ in vectors),
            ),
        )
        self._words.add(count_lexemes(words for _, words in vectors), len(actors))

    def _remove_actors(self, conn: Conn, actors: Sequence[int]) -> None:
        rows = conn.execute(
            """
            WITH gone AS (
                DELETE FROM search_actor WHERE actor = ANY(%s::int4[]) RETURNING tsv
            )
            SELECT lexeme, count(*) FROM (
                SELECT %s || unnest(tsvector_to_array(tsv)) AS lexeme FROM gone
                UNION ALL SELECT %s FROM gone
            ) x GROUP BY lexeme
            """,
            (int_array(actors), NAME, NAME),
        )
        self._words.add(dict(rows.fetchall()), 0, -1)

    def _flush(self, conn: Conn) -> None:
        total = fetch_int(conn, "SELECT sum(documents)::int8 FROM search_slice")
        if self._words.flush(conn, total):
            self._frequencies.clear()

    def delete(
        self, conn: Conn, addresses: Sequence[Address], actors: Sequence[int]
    ) -> None:
        """Remove records, and accounts with all their records."""
        if addresses:
            lexemes, counts = remove_rows(conn, addresses)
            add_counts(conn, counts)
            self._words.add(lexemes, -counts.total(), -1)
        if actors:
            lexemes, counts = remove_authors(conn, actors)
            add_counts(conn, counts)
            self._words.add(lexemes, -counts.total(), -1)
            self._remove_actors(conn, actors)
        self._flush(conn)

    def clear(self, conn: Conn) -> None:
        """Forget everything (before a rebuild)."""
        clear_slices(conn)
        conn.execute("TRUNCATE search_actor, search_word")
        self._words.clear()
        self._frequencies.clear()

    def search_records(
        self,
        query: Query,
        *,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None = None,
    ) -> RecordPage:
        """Return matching records, exact matches first."""
        with open_reading(self.pool) as reading:
            search = RecordSearch(reading, self._frequencies, collections)
            return search.find(query, limit, after)

    def search_actors(
        self,
        text: str,
        *,
        limit: int,
        after: list[Any] | None = None,
        follows: Sequence[int] = (),
    ) -> list[ActorHit]:
        """Return accounts by handle, name and description."""
        return self._find_accounts(text, limit, after, follows, names_only=False)

    def typeahead(
        self,
        text: str,
        *,
        limit: int,
        after: list[Any] | None = None,
        follows: Sequence[int] = (),
    ) -> list[ActorHit]:
        """Return accounts whose handle or name begins like `text`."""
        return self._find_accounts(text, limit, after, follows, names_only=True)

    def _find_accounts(
        self,
        text: str,
        limit: int,
        after: list[Any] | None,
        follows: Sequence[int],
        *,
        names_only: bool,
    ) -> list[ActorHit]:
        with open_reading(self.pool) as reading:
            search = AccountSearch(
                reading, self._frequencies, follows, names_only=names_only
            )
            return search.find(text, limit, after)

    def stats(self) -> EngineStats:
        """Return counts for the status page."""
        with open_reading(self.pool) as reading:
            actors = self._frequencies.find(reading, [NAME])[NAME]
            newest = max(
                (
                    row[0]
                    for one in reading.slices[:2]
                    for row in reading.rows(f"SELECT max(ts) FROM {one.table}", [])
                    if row[0] is not None
                ),
                default=None,
            )
            return EngineStats(self.name, reading.total, actors, newest)
