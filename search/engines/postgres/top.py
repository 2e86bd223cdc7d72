"""Matches by reactions and relevance, in bands of tiers, to the end.

A band holds the matches between two tiers of reactions, in the order of their rank. A
band that is too large to be ranked is served newest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from search.engines.postgres.conditions import POST, Conditions
from search.engines.postgres.estimates import Estimate
from search.engines.postgres.latest import (
    FEW,
    HIDDEN,
    ORDER,
    SPAN,
    Span,
    Stretch,
    find_latest,
    records_source,
    span_of,
    stretches_of,
)
from search.engines.postgres.reading import Reading
from search.engines.postgres.slices import Key
from search.engines.postgres.tsvector import TIER
from search.query.nodes import Query
from storage.postgres.instants import from_micros, to_micros
from storage.records.stats import TIERS

_CAP: Final = 2_000
"""Matches of a band that can be ranked for one page."""
_LEAST: Final = 60
"""Matches that a band should hold at least."""
_READ: Final = 10_000
"""Documents that may be read to rank a band: of a phrase, all with its words are."""
_UNRANKED: Final = 20_000
"""Documents that are not read one by one to be ranked."""
_FIRST_TIER: Final = 1
_LAST_TIER: Final = len(TIERS) + 1
_WEIGHTS: Final = "{0.2, 0.4, 0.4, 1.0}"
_NORMALIZED: Final = 32
"""Map the rank to 0…1."""
_WORDS: Final = 2.0
_WORDS_OF_FEW: Final = 25.0
"""Weight of words beside reactions, and where all matches are ranked at once.

Many matches are in the order of their reactions; of few, those about the words come
first. Both are from `bench relevance`.
"""
_DAY: Final = 86_400
_SCORE: Final = f"""
coalesce(CASE WHEN d.collection = {POST} THEN (
    SELECT s.likes + 2 * s.reposts + s.replies + 2 * s.quotes FROM post_stats s
    WHERE s.actor = d.actor AND s.rkey = d.rkey
) ELSE (
    SELECT s.likes FROM subject_stats s WHERE s.actor = d.actor
        AND s.collection = d.collection AND s.rkey = d.rkey
) END, 0)
"""
_RANK: Final = f"""
(ln(1 + greatest(0, {_SCORE})) / ln(4)
 + %s * ts_rank_cd('{_WEIGHTS}', d.tsv, %s::tsquery, {_NORMALIZED})
 + 0.5 / (1 + greatest(0, extract(epoch FROM %s::timestamptz - d.ts)::float8)
           / {30 * _DAY})
)::float8
"""
_ADDRESS: Final = "actor DESC, collection DESC, rkey DESC"
_NOTHING: Final = (
    "(SELECT d.actor, d.collection, d.rkey, d.ts, d.tsv FROM search_document_0 d"
    " WHERE false)"
)
RANKED: Final = 0
TIMED: Final = 1


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a hit: its band, how the band is sorted, and the hit in it.

    `frozen` is the moment of the first page, so that later records do not shift the
    others. `low` and `high` are tiers; `high` is beyond the band.
    """

    frozen: int
    high: int
    low: int
    mode: int
    at: tuple[Any, ...]

    def keyset(self) -> list[Any]:
        return [self.frozen, self.high, self.low, self.mode, *self.at]


Hit = tuple[tuple[int, int, int], Place]


def read_place(after: Sequence[Any]) -> Place:
    """Return the place in a keyset."""
    frozen, high, low, mode, *at = after
    return Place(frozen, high, low, mode, tuple(at))


def find_top(
    reading: Reading,
    conditions: Conditions,
    expected: Estimate,
    query: Query,
    limit: int,
    after: Place | None,
) -> list[Hit]:
    """Return addresses of matches with their places, best first."""
    stretches = [*stretches_of(reading, span_of(query))]
    top = _Top(reading, conditions, expected, query, limit, stretches)
    return top.find(after)


@dataclass(slots=True)
class _Top:
    reading: Reading
    conditions: Conditions
    expected: Estimate
    query: Query
    limit: int
    stretches: Sequence[Stretch]

    def find(self, after: Place | None) -> list[Hit]:
        """Return hits of bands from the highest on."""
        frozen = after.frozen if after else to_micros(datetime.now(UTC))
        found: list[Hit] = []
        high = after.high if after else _LAST_TIER + 1
        while len(found) < self.limit and high > _FIRST_TIER:
            need = self.limit - len(found)
            if after is None:
                place = self._begin(Place(frozen, high, 0, RANKED, ()), need)
            else:
                place, after = after, None
            while True:
                hits = self._band(place, need)
                if hits is not None:
                    break
                # Too many to rank: fewer tiers, then no rank.
                if place.high - place.low > 1:
                    place = replace(place, low=place.low + 1)
                else:
                    place = replace(place, mode=TIMED)
            found += hits
            high = place.low
        return found

    def _begin(self, place: Place, need: int) -> Place:
        """Return the first place of the band below a tier."""
        wanted = max(_LEAST, 2 * need)
        low = place.high - 1
        while (
            low > _FIRST_TIER
            and self._expected(place.high, low) < wanted
            and self._read(place.high, low - 1) <= _READ
        ):
            low -= 1
        is_single = place.high - low == 1
        timed = is_single and (
            self._expected(place.high, low) > _CAP
            or self._read(place.high, low) > _READ
        )
        if timed and self._expected(place.high, low) < self._read(place.high, low) / 2:
            # Each band of a phrase reads all that holds its words: one band is enough.
            low = _FIRST_TIER
        if low == _FIRST_TIER and not self._is_anchored and self._size > _UNRANKED:
            timed = True
        return replace(place, low=low, mode=TIMED if timed else RANKED)

    @property
    def _is_anchored(self) -> bool:
        of = self.conditions
        return of.is_anchored or of.authors is not None or of.records is not None

    @property
    def _size(self) -> int:
        return sum(stretch.documents for stretch in self.stretches)

    def _expected(self, high: int, low: int) -> float:
        """Return the expected number of matches from one tier to below another."""
        return self._share(high, low) * self.expected.rate * self._size

    def _read(self, high: int, low: int) -> float:
        """Return the expected number of documents that are read to find matches."""
        return self._share(high, low) * self.expected.read * self._size

    def _share(self, high: int, low: int) -> float:
        shares = (*self.expected.tiers, 0.0)
        return max(0.0, shares[low - 1] - shares[high - 1])

    def _band(self, place: Place, need: int) -> list[Hit] | None:
        """Return hits of a band; None if it holds too many to rank."""
        tiers = [f"'{TIER}{place.low}'"] if place.low > _FIRST_TIER else []
        tiers += [f"!'{TIER}{place.high}'"] if place.high <= _LAST_TIER else []
        more = " & ".join(tiers)
        if place.mode == TIMED:
            return self._newest(place, need, more)
        return self._rank(place, need, more)

    def _newest(self, place: Place, need: int, more: str) -> list[Hit]:
        span = self._span(place)
        if place.at:
            span = replace(span, before=Key(*place.at))
        share = self._share(place.high, place.low)
        expected = replace(
            self.expected,
            rate=self.expected.rate * share,
            read=self.expected.read * share,
        )
        keys = find_latest(self.reading, self.conditions, expected, span, need, more)
        return [(key[1:], replace(place, at=tuple(key))) for key in keys]

    def _rank(self, place: Place, need: int, more: str) -> list[Hit] | None:
        cap = _CAP * 2 if place.at else _CAP
        is_whole = place.low == _FIRST_TIER and place.high > _LAST_TIER
        source, values = self._source(place, more, cap)
        below = "WHERE (rank, actor, collection, rkey) < (%s, %s, %s, %s)"
        rows = self.reading.rows(
            f"""
            SELECT actor, collection, rkey, rank, n FROM (
                SELECT actor, collection, rkey, {_RANK} AS rank, count(*) OVER () AS n
                FROM ({source}) d
            ) ranked {below if place.at else ""}
            ORDER BY rank DESC, {_ADDRESS} LIMIT %s
            """,
            [
                _WORDS_OF_FEW if is_whole else _WORDS,
                self.conditions.ranked,
                from_micros(place.frozen),
                *values,
                *place.at,
                need,
            ],
        )
        if rows and rows[0][4] > cap and not place.at:
            return None
        return [
            (
                (actor, collection, rkey),
                replace(place, at=(rank, actor, collection, rkey)),
            )
            for actor, collection, rkey, rank, _ in rows
        ]

    def _source(self, place: Place, more: str, cap: int) -> tuple[str, list[Any]]:
        """Return SQL of the matches of a band."""
        where, values = self.conditions.where(more)
        span = self._span(place).values
        columns = "d.actor, d.collection, d.rkey, d.ts, d.tsv"
        if self.conditions.records is not None:
            source, given = records_source(self.conditions.records)
            found = f"SELECT {columns} FROM ({source}) d WHERE {where} AND {SPAN}"
            return f"{found} LIMIT {cap + 1}", [*given, *values, *span]
        parts: list[str] = []
        everything: list[Any] = []
        for one in self.stretches:
            if one.is_short:
                parts.append(
                    f"(SELECT {columns} FROM (SELECT * FROM {one.slice.table} d"
                    f" WHERE {SPAN} ORDER BY {ORDER} LIMIT {FEW}) d"
                    f" WHERE {where} LIMIT {cap + 1})"
                )
                everything += [*span, *values]
            else:
                parts.append(
                    f"(SELECT {columns} FROM {one.slice.table} d"
                    f" WHERE {where} AND {HIDDEN} LIMIT {cap + 1})"
                )
                everything += [*values, *span]
        union = " UNION ALL ".join(parts) or f"{_NOTHING}"
        return f"SELECT * FROM ({union}) d LIMIT {cap + 1}", everything

    def _span(self, place: Place) -> Span:
        return span_of(self.query, Key(place.frozen + 1, -1, -1, -(2**63)))
