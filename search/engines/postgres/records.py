"""Search of records: the steps of the ladder, each newest first or by rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from search.engines.contract import RecordHit, RecordPage
from search.engines.postgres.conditions import authors_of, find_conditions
from search.engines.postgres.estimates import estimate
from search.engines.postgres.frequencies import RARE, Frequencies
from search.engines.postgres.latest import find_latest, span_of, stretches_of
from search.engines.postgres.reading import Reading
from search.engines.postgres.slices import Key
from search.engines.postgres.top import find_top, read_place
from search.engines.spelling import correct
from search.ladder import Ladder, Mended
from search.query.nodes import Query
from storage.records.addresses import Address

_COMMON: Final = 500
"""A word of more documents, and more than one in so many, is whole."""
_VERY_RARE: Final = 3
"""A word of no more documents may be misspelt; more where there are many documents."""


@dataclass(slots=True)
class RecordSearch:
    """The search of one page."""

    reading: Reading
    frequencies: Frequencies
    collections: Sequence[int]
    _exact: float = 0.0

    def find(self, query: Query, limit: int, after: list[Any] | None) -> RecordPage:
        """Return a page of records."""
        ladder = Ladder(self._step, self._mend, self._is_common)
        page = ladder.climb(query, limit, after)
        if page.total is not None:
            return page
        expected = int(self._exact)
        least = len(page.hits) + (1 if after is None else 0)
        return replace(page, total=max(least, expected))

    def _step(
        self, query: Query, limit: int, after: list[Any] | None
    ) -> list[RecordHit]:
        reading = self.reading
        ids = self._author_ids(query)
        conditions = find_conditions(query, self.collections, ids)
        expected = estimate(reading, self.frequencies, conditions)
        matches = expected.rate * sum(
            stretch.documents for stretch in stretches_of(reading, span_of(query))
        )
        self._exact = max(self._exact, matches)
        if query.sort == "top":
            place = read_place(after) if after else None
            hits = find_top(reading, conditions, expected, query, limit, place)
            return [RecordHit(Address(*found), at.keyset()) for found, at in hits]
        span = span_of(query, Key(*after) if after else None)
        keys = find_latest(reading, conditions, expected, span, limit)
        return [RecordHit(Address(*key[1:]), [*key]) for key in keys]

    def _author_ids(self, query: Query) -> dict[str, int]:
        dids = sorted({*authors_of(query.where)})
        if not dids:
            return {}
        sql = "SELECT did, id FROM actor WHERE did = ANY(%s)"
        return dict(self.reading.rows(sql, [dids]))

    def _is_common(self, word: str) -> bool:
        documents = self.frequencies.find(self.reading, [word])[word]
        return documents > max(_COMMON, self.reading.total // _COMMON)

    def _mend(self, words: Sequence[str]) -> Mended:
        known = self.frequencies.find(self.reading, words)
        most = max(_VERY_RARE, self.reading.total // RARE)
        pairs = [
            (word, correct(self.reading, word, known[word]))
            for word in words
            if known[word] <= most
        ]
        return tuple((word, better) for word, better in pairs if better)
