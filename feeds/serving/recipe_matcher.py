"""The recipes in the matcher of the drain, and the candidates that they find."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from feeds.recipes.compiling import CompiledRecipe
from feeds.recipes.recipe import MAX_SOURCES
from feeds.recipes.recipe_book import RecipeBook
from feeds.serving.candidates import (
    Candidate,
    key_of,
    put_candidates,
    remove_candidates,
)
from search.matches.match_pass import DrainedRecords, Found, QueryList
from storage.postgres.pool import Conn
from storage.private.private_store import PrivateStore


class RecipeMatcher:
    """Recipes that are matched with each drained record.

    Records that are indexed again are matched too: so a wiped index fills the
    candidates of every recipe while it is built. Recipes with the same sources and
    filter share their candidates.
    """

    only_new = False

    def __init__(
        self, private: PrivateStore, service_did: str, queries: QueryList
    ) -> None:
        self._private = private
        self._book = RecipeBook(service_did)
        self._queries = queries
        self._users: Counter[int] = Counter()
        self._held: dict[int, int] = {}
        self._slots: dict[int, int] = {}
        self._compiled: dict[int, CompiledRecipe] = {}
        self._next_slot = 0

    def __len__(self) -> int:
        return len(self._slots)

    def refresh(self) -> None:
        """Read the changes since the last time."""
        for number in self._book.refresh(self._private):
            known = self._book.recipes.get(number)
            old = self._held.pop(number, None)
            if known is not None:
                self._held[number] = known.compiled.candidates
                self._use(known.compiled)
            if old is not None:
                self._release(old)

    def take(self, conn: Conn, drained: DrainedRecords, found: Found) -> None:
        """Store the candidates among drained records. Does not commit."""
        changed = [document.address for document in drained.records]
        if self._slots:
            # A changed record may match no longer.
            remove_candidates(conn, [*changed, *drained.deleted], drained.gone)
        now = datetime.now(UTC)
        slots = {slot: feed for feed, slot in self._slots.items()}
        pairs: list[tuple[int, Candidate]] = []
        for number, document in found:
            slot, bit = divmod(number, MAX_SOURCES)
            feed = slots[slot]
            if document.sort_at >= now - self._compiled[feed].recipe.window:
                key = key_of(document.sort_at, document.address)
                pairs.append((feed, Candidate(key, 1 << bit)))
        put_candidates(conn, pairs)

    def _use(self, compiled: CompiledRecipe) -> None:
        feed = compiled.candidates
        self._users[feed] += 1
        if feed in self._slots:
            return
        slot = self._next_slot
        self._next_slot += 1
        self._slots[feed], self._compiled[feed] = slot, compiled
        for source in compiled.matched:
            number = slot * MAX_SOURCES + source.bit
            self._queries.put(number, source.query, source.collections, source.holds)

    def _release(self, feed: int) -> None:
        self._users[feed] -= 1
        if self._users[feed]:
            return
        del self._users[feed]
        slot, compiled = self._slots.pop(feed), self._compiled.pop(feed)
        for source in compiled.matched:
            self._queries.remove(slot * MAX_SOURCES + source.bit)
