"""The `postgres` engine: tsvector and GIN in the index database itself.

It is written in the transaction of the drain. Ranking by likes sees the newest matches
only (`TOP_CANDIDATES`): a GIN index has no order, and sorting every match of a common
word would not fit into a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from search.documents import ActorDocument, Document, RecordDocument
from search.engines.conditions import LEXEME_PREFIXES, find_conditions
from search.engines.contract import (
    ActorHit,
    EngineStats,
    RecordHit,
    RecordPage,
    TooCostlyError,
)
from search.engines.spelling import correct
from search.engines.tsvector import encode_clause, encode_tsvector
from search.query.nodes import AllOf, Node, Query, Words, required
from search.terms import FIELDS, read_terms
from search.text.tokens import query_tokens, tokenize
from storage.postgres.arrays import int_columns
from storage.postgres.instants import from_micros, to_micros
from storage.postgres.pool import Conn, Pool
from storage.records.addresses import Address

TOP_CANDIDATES = 5_000
"""Newest matches that compete for the top places."""
STATEMENT_TIMEOUT_MS = 2_000


@dataclass(slots=True)
class PostgresEngine:
    """The engine; `search.engines.contract.SearchEngine` documents its methods."""

    pool: Pool
    name: str = "postgres"
    external: bool = False

    def put(self, conn: Conn, documents: Sequence[Document]) -> None:
        """Insert or replace documents."""
        records = [d for d in documents if isinstance(d, RecordDocument)]
        actors = [d for d in documents if isinstance(d, ActorDocument)]
        if records:
            conn.execute(
                """
                INSERT INTO search_document (actor, collection, rkey, ts, tsv)
                SELECT * FROM unnest(%s::int4[], %s::int4[], %s::int8[],
                                     %s::timestamptz[], %s::tsvector[])
                ON CONFLICT (actor, collection, rkey)
                DO UPDATE SET ts = excluded.ts, tsv = excluded.tsv
                """,
                (
                    *int_columns([d.address for d in records], 3),
                    [d.sort_at for d in records],
                    [_record_vector(d) for d in records],
                ),
            )
        if actors:
            conn.execute(
                """
                INSERT INTO search_actor (actor, handle, tsv)
                SELECT * FROM unnest(%s::int4[], %s::text[], %s::tsvector[])
                ON CONFLICT (actor)
                DO UPDATE SET handle = excluded.handle, tsv = excluded.tsv
                """,
                (
                    [d.actor for d in actors],
                    [d.handle for d in actors],
                    [_actor_vector(d) for d in actors],
                ),
            )

    def delete(
        self, conn: Conn, addresses: Sequence[Address], actors: Sequence[int]
    ) -> None:
        """Remove records, and accounts with all their records."""
        if addresses:
            conn.execute(
                """
                DELETE FROM search_document d
                USING unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, r)
                WHERE d.actor = x.a AND d.collection = x.c AND d.rkey = x.r
                """,
                int_columns(addresses, 3),
            )
        for table in ("search_actor", "search_document") if actors else ():
            conn.execute(f"DELETE FROM {table} WHERE actor = ANY(%s)", ([*actors],))

    def clear(self, conn: Conn) -> None:
        """Forget everything (before a rebuild)."""
        conn.execute("TRUNCATE search_document, search_actor, search_word")

    def search_records(
        self,
        query: Query,
        *,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None = None,
    ) -> RecordPage:
        """Return matching records, newest or most liked first.

        Without any match, unknown words are corrected and searched again; the first
        value of a keyset is then 1.
        """
        mended = after is not None and after[0] == 1
        if not mended:
            hits = self._search(query, collections, limit, after)
            if hits or after is not None:
                return RecordPage(hits)
        corrected = self._mend(query)
        if corrected is None:
            return RecordPage([])
        hits = self._search(corrected, collections, limit, after)
        return RecordPage(
            [RecordHit(hit.address, [1, *hit.keyset[1:]]) for hit in hits]
        )

    def _search(
        self,
        query: Query,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None,
    ) -> list[RecordHit]:
        where, values = find_conditions(query, collections)
        if query.sort == "top":
            return self._search_top(where, values, limit, after)
        if after is not None:
            where.append("(d.ts, d.actor, d.collection, d.rkey) < (%s, %s, %s, %s)")
            values += [from_micros(after[1]), *after[2:]]
        rows = self._read(
            f"""
            SELECT d.actor, d.collection, d.rkey, d.ts FROM search_document d
            WHERE {" AND ".join(where)}
            ORDER BY d.ts DESC, d.actor DESC, d.collection DESC, d.rkey DESC LIMIT %s
            """,
            [*values, limit],
        )
        return [
            RecordHit(Address(*place), [0, to_micros(ts), *place])
            for *place, ts in rows
        ]

    def _mend(self, query: Query) -> Query | None:
        parts = required(query.where)
        words = [p for p in parts if isinstance(p, Words) and len(p.tokens) == 1]
        with self.pool.connection() as conn:
            known = {word: correct(conn, word.tokens[0]) for word in words}
        better: dict[Node, Node] = {
            word: Words((near,)) for word, near in known.items() if near
        }
        if not better:
            return None
        where = AllOf(tuple(better.get(part, part) for part in parts))
        return replace(query, where=where)

    def _search_top(
        self, where: list[str], values: list[Any], limit: int, after: list[Any] | None
    ) -> list[RecordHit]:
        # The candidates are those of the first page's moment: later posts neither shift
        # nor repeat places.
        frozen = from_micros(after[1]) if after else datetime.now(UTC)
        keyset = ""
        if after:
            keyset = "WHERE (score, actor, collection, rkey) < (%s, %s, %s, %s)"
        rows = self._read(
            f"""
            SELECT actor, collection, rkey, score FROM (
                SELECT d.actor, d.collection, d.rkey,
                       coalesce(s.likes + 2 * s.reposts + s.replies + 2 * s.quotes, 0)
                           AS score
                FROM (
                    SELECT d.actor, d.collection, d.rkey FROM search_document d
                    WHERE {" AND ".join([*where, "d.ts <= %s"])}
                    ORDER BY d.ts DESC, d.actor DESC, d.collection DESC, d.rkey DESC
                    LIMIT %s
                ) d LEFT JOIN post_stats s USING (actor, rkey)
            ) scored {keyset}
            ORDER BY score DESC, actor DESC, collection DESC, rkey DESC LIMIT %s
            """,
            [*values, frozen, TOP_CANDIDATES, *(after[2:] if after else ()), limit],
        )
        return [
            RecordHit(Address(*place), [0, to_micros(frozen), score, *place])
            for *place, score in rows
        ]

    def search_actors(
        self,
        text: str,
        *,
        limit: int,
        after: list[Any] | None = None,
        follows: Sequence[int] = (),
    ) -> list[ActorHit]:
        """Return accounts by handle, name and description."""
        return self._search_actors(text, "", limit, after, follows)

    def typeahead(
        self,
        text: str,
        *,
        limit: int,
        after: list[Any] | None = None,
        follows: Sequence[int] = (),
    ) -> list[ActorHit]:
        """Return accounts whose handle or name begins like `text`."""
        return self._search_actors(text, "AB", limit, after, follows)

    def _search_actors(
        self,
        text: str,
        weights: str,
        limit: int,
        after: list[Any] | None,
        follows: Sequence[int],
    ) -> list[ActorHit]:
        wanted = text.replace("\0", " ").strip().removeprefix("@").lower()
        tokens = [token for c in query_tokens(wanted) for token in c.tokens]
        if not tokens:
            return []
        last = len(tokens) - 1
        clauses = [
            encode_clause(Words((token,), prefix=i == last), weights)
            for i, token in enumerate(tokens)
        ]
        keyset = "WHERE (exact, followed, followers, actor) < (%s, %s, %s, %s)"
        rows = self._read(
            f"""
            SELECT exact, followed, followers, actor FROM (
                SELECT a.actor, (a.handle IS NOT DISTINCT FROM %s)::int AS exact,
                       (a.actor = ANY(%s))::int AS followed,
                       coalesce(s.followers, 0) AS followers
                FROM search_actor a LEFT JOIN actor_stats s USING (actor)
                WHERE a.tsv @@ %s::tsquery
            ) found {keyset if after else ""}
            ORDER BY exact DESC, followed DESC, followers DESC, actor DESC LIMIT %s
            """,
            [wanted, [*follows], " & ".join(clauses), *(after or ()), limit],
        )
        return [ActorHit(actor, [*place, actor]) for *place, actor in rows]

    def stats(self) -> EngineStats:
        """Return counts for the status page, as the planner estimates them."""
        rows = self._read(
            """
            SELECT (SELECT greatest(reltuples, 0)::int8 FROM pg_class
                    WHERE oid = 'search_document'::regclass),
                   (SELECT greatest(reltuples, 0)::int8 FROM pg_class
                    WHERE oid = 'search_actor'::regclass),
                   (SELECT max(ts) FROM search_document)
            """,
            [],
        )
        records, actors, newest = rows[0]
        return EngineStats(self.name, records, actors, newest)

    def _read(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with (
            self.pool.connection() as conn,
            conn.transaction(),
            conn.cursor(row_factory=tuple_row) as cursor,
        ):
            cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
            try:
                return cursor.execute(sql, values).fetchall()
            except psycopg.errors.QueryCanceled:
                raise TooCostlyError(
                    "the search took too long; add a word, an author or a date"
                ) from None


def _record_vector(document: RecordDocument) -> str:
    terms = read_terms(document)
    return encode_tsvector(
        [
            (terms.fields.get(name, ()), weight)
            for name, weight in zip(FIELDS, "ABCCD", strict=True)
        ],
        [
            LEXEME_PREFIXES[f.kind] + f.value
            for f in terms.filters
            if f.kind in LEXEME_PREFIXES
        ],
    )


def _actor_vector(document: ActorDocument) -> str:
    handle = document.handle or ""
    return encode_tsvector(
        [
            (tokenize(handle), "A"),
            (tokenize(document.display_name or ""), "B"),
            (tokenize(document.description or ""), "D"),
        ]
    )
