"""The filling of candidates from the index, backward from now.

A new recipe finds what was indexed before it. Its sources are searched newest first, a
batch at a time, and the place is stored: another run goes on there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

from feeds.recipes.compiling import CompiledRecipe, MatchedSource
from feeds.recipes.recipe_book import RecipeBook
from feeds.serving.candidates import (
    MAX_CANDIDATES,
    Candidate,
    drop_unused,
    key_of,
    prune_candidates,
    put_candidates,
)
from indexer.collections.texts import TEXTS
from search.documents import RecordDocument
from search.drain import wait_for_drain
from search.engines.contract import SearchEngine, TooCostlyError
from search.matches.matcher import Seen, compile_query
from search.record_documents import load_accounts, load_documents
from storage.postgres.pool import Conn, Pool
from storage.private.private_store import PrivateStore
from storage.records.addresses import find_collections

BATCH: Final = 300
_PRUNED_AT_ONCE: Final = 5


@dataclass(frozen=True, slots=True)
class FillState:
    """The state of a recipe's filling.

    `source` is the place of the source under way, `reached` the time of the oldest
    record that was read of it.
    """

    source: int
    after: list[Any] | None
    found: int
    reached: datetime | None
    done_at: datetime | None
    error: str | None


def find_fill(conn: Conn, feed: int) -> FillState | None:
    """Return the state of a filling, None before it begins."""
    row = conn.execute(
        "SELECT source, after, found, reached, done_at, error FROM feed_fill"
        " WHERE feed = %s",
        (feed,),
    ).fetchone()
    return None if row is None else FillState(*row)


class RecipeFiller:
    """Fills the candidates of all recipes in turn, and prunes them."""

    def __init__(
        self,
        pool: Pool,
        private: PrivateStore,
        engine: SearchEngine,
        service_did: str,
    ) -> None:
        self._pool = pool
        self._private = private
        self._engine = engine
        self._book = RecipeBook(service_did)
        self._pruned: list[int] = []

    def run(self, seconds: float) -> int:
        """Fill for some time; return the number of batches."""
        until = monotonic() + seconds
        self._book.refresh(self._private)
        compiled = {
            known.compiled.candidates: known.compiled
            for known in self._book.recipes.values()
            if known.compiled.matched
        }
        waiting = self._begin([*compiled])
        batches = 0
        while waiting and monotonic() < until:
            for feed in [*waiting]:
                batches += 1
                if not self.fill_batch(compiled[feed]):
                    waiting.remove(feed)
                if monotonic() >= until:
                    break
        self._prune(compiled, until)
        return batches

    def _begin(self, feeds: Sequence[int]) -> list[int]:
        """Note new recipes; return those that are not filled."""
        now = datetime.now(UTC)
        with self._pool.connection() as conn:
            new = conn.execute(
                "INSERT INTO feed_fill (feed, started_at) SELECT x, %s"
                " FROM unnest(%s::int8[]) AS x ON CONFLICT DO NOTHING RETURNING feed",
                (now, [*feeds]),
            ).fetchall()
            conn.commit()
            if new:
                # Later batches of the drain match these recipes; earlier ones are read.
                wait_for_drain(conn)
            rows = conn.execute(
                "SELECT feed FROM feed_fill WHERE feed = ANY(%s) AND done_at IS NULL"
                " ORDER BY started_at, feed",
                ([*feeds],),
            )
            return [feed for (feed,) in rows]

    def fill_batch(self, compiled: CompiledRecipe) -> bool:
        """Fill one batch of a recipe; return True if there is more to do now."""
        feed = compiled.candidates
        with self._pool.connection() as conn:
            state = find_fill(conn, feed)
        if state is None or state.done_at is not None:
            return False
        source = compiled.matched[state.source]
        oldest = datetime.now(UTC) - compiled.recipe.window
        try:
            batch = search_batch(
                self._pool, self._engine, source, oldest, state.after, BATCH
            )
        except TooCostlyError as error:
            self._fail(feed, str(error) or "the search takes too long")
            return False
        candidates = [
            Candidate(key_of(d.sort_at, d.address), 1 << source.bit)
            for d in batch.documents
        ]
        found = state.found + len(candidates)
        ended = batch.after is None or found >= MAX_CANDIDATES * (state.source + 1)
        is_last = ended and state.source + 1 == len(compiled.matched)
        with self._pool.connection() as conn:
            put_candidates(conn, [(feed, candidate) for candidate in candidates])
            conn.execute(
                "UPDATE feed_fill SET source = %s, after = %s, found = %s,"
                " reached = %s, done_at = %s, error = NULL"
                " WHERE feed = %s AND source = %s AND done_at IS NULL",
                (
                    state.source + (ended and not is_last),
                    None if ended else json.dumps(batch.after),
                    found,
                    batch.reached or state.reached,
                    datetime.now(UTC) if is_last else None,
                    feed,
                    state.source,
                ),
            )
        return not is_last

    def _fail(self, feed: int, reason: str) -> None:
        with self._pool.connection() as conn:
            conn.execute(
                "UPDATE feed_fill SET error = %s WHERE feed = %s", (reason, feed)
            )

    def _prune(self, compiled: dict[int, CompiledRecipe], until: float) -> None:
        now = datetime.now(UTC)
        with self._pool.connection() as conn:
            conn.commit()
            while drop_unused(conn, [*compiled]) and monotonic() < until:
                pass
            # A few in turn, since each reads to the end of what is kept.
            self._pruned = [f for f in self._pruned if f in compiled] or [*compiled]
            for feed in self._pruned[:_PRUNED_AT_ONCE]:
                prune_candidates(conn, feed, now - compiled[feed].recipe.window)
            del self._pruned[:_PRUNED_AT_ONCE]


@dataclass(frozen=True, slots=True)
class SearchedBatch:
    """Documents that match a source; `after` is None at the end.

    `reached` is the time of the oldest record that was read.
    """

    documents: list[RecordDocument]
    after: list[Any] | None
    reached: datetime | None


def search_batch(
    pool: Pool,
    engine: SearchEngine,
    source: MatchedSource,
    oldest: datetime,
    after: list[Any] | None,
    limit: int,
) -> SearchedBatch:
    """Search the next records of a source, newest first.

    Raises TooCostlyError. Holds no connection while the engine answers.
    """
    with pool.connection() as conn:
        known = find_collections(conn, {*source.collections})
    if not known:
        return SearchedBatch([], None, None)
    query = replace(source.query, since=oldest)
    page = engine.search_records(
        query, collections=sorted(known.values()), limit=limit, after=after
    )
    addresses = [hit.address for hit in page.hits]
    with pool.connection() as conn:
        accounts = load_accounts(conn, {a.actor for a in addresses})
        documents = load_documents(conn, TEXTS, addresses, accounts)
    holds = compile_query(query)
    exact = [document for document in documents if holds(Seen(document))]
    if source.holds is not None:
        exact = [document for document in exact if source.holds(Seen(document))]
    return SearchedBatch(
        exact,
        page.hits[-1].keyset if len(page.hits) == limit else None,
        min((document.sort_at for document in documents), default=None),
    )


def search_all(
    pool: Pool,
    engine: SearchEngine,
    compiled: CompiledRecipe,
    now: datetime,
    most: int,
    seconds: float | None = None,
) -> Iterator[Candidate]:
    """Yield the newest candidates of a recipe that is not stored.

    At most `most` records of each source are found, and no further search begins after
    `seconds`. Raises TooCostlyError.
    """
    until = None if seconds is None else monotonic() + seconds
    for source in compiled.matched:
        after: list[Any] | None = None
        found = 0
        while found < most and (until is None or monotonic() < until):
            oldest = now - compiled.recipe.window
            batch = search_batch(pool, engine, source, oldest, after, BATCH)
            found += len(batch.documents)
            for document in batch.documents:
                key = key_of(document.sort_at, document.address)
                yield Candidate(key, 1 << source.bit)
            after = batch.after
            if after is None:
                break
