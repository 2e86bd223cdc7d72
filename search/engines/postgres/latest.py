"""Matches newest first, in bounded steps over the time slices.

A slice is either walked along its time index, when matches are frequent, or read by
its GIN index, when they are rare. Postgres cannot choose: it takes every lexeme to be
in one of a thousand rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from search.engines.postgres.conditions import Condition, Conditions
from search.engines.postgres.estimates import Estimate
from search.engines.postgres.reading import Reading
from search.engines.postgres.slices import Key, Slice, key_values
from search.query.nodes import Query
from storage.postgres.arrays import int_columns
from storage.postgres.instants import to_micros

_WALKS: Final = (1_000, 2_000, 4_000, 8_000, 16_000)
"""Lengths of a walk along an index; few, so that statements are prepared."""
FEW: Final = 4_000
_SCAN: Final = 0.02
"""Cost of an entry of a GIN list, beside that of a row."""
ORDER: Final = "ts DESC, actor DESC, collection DESC, rkey DESC"
_COLUMNS: Final = "d.actor, d.collection, d.rkey, d.ts"
_LOWEST: Final = -(2**63)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: keys below `before`, times from `since` on."""

    before: Key | None = None
    since: Any = None

    @property
    def values(self) -> list[Any]:
        since = "-infinity" if self.since is None else self.since
        if self.before is None:
            return [since, "infinity", 0, 0, 0]
        return [since, *key_values(self.before)]

    def holds(self, newer: Slice | None, one: Slice) -> bool:
        """Return True if the span reaches into a slice below a newer one."""
        if one.documents <= 0:
            return False
        if self.before and one.bound and self.before <= one.bound:
            return False
        return not (
            self.since is not None
            and newer is not None
            and newer.bound is not None
            and newer.bound.micros < to_micros(self.since)
        )


def span_of(query: Query, after: Key | None = None) -> Span:
    """Return the span of a query, below the last hit of the page before."""
    if query.until is not None:
        # No row is below this key at the same time.
        until = Key(to_micros(query.until), -1, -1, _LOWEST)
        after = until if after is None else min(after, until)
    return Span(after, query.since)


SPAN: Final = (
    "d.ts >= %s::timestamptz AND (d.ts, d.actor, d.collection, d.rkey)"
    " < (%s::timestamptz, %s, %s, %s)"
)
# The planner must not see the order of time beside a GIN index.
HIDDEN: Final = SPAN.replace("d.ts", "d.ts + '0'::interval")


def find_latest(
    reading: Reading,
    conditions: Conditions,
    expected: Estimate,
    span: Span,
    limit: int,
    more: str = "",
) -> list[Key]:
    """Return the keys of the newest matches in a span; `more` is tsquery text."""
    latest = _Latest(reading, conditions, expected, span, limit, more)
    return latest.find()


@dataclass(slots=True)
class _Latest:
    reading: Reading
    conditions: Conditions
    expected: Estimate
    span: Span
    limit: int
    more: str

    def find(self) -> list[Key]:
        if self.conditions.records is not None:
            return self._read_records(self.conditions.records)
        where = self.conditions.where(self.more)
        slices = list(stretches_of(self.reading, self.span))
        found: list[Key] = []
        rate = self.expected.rate
        while slices and len(found) < self.limit:
            one, need = slices[0], self.limit - len(found)
            rows = need * 2 / rate if rate else float("inf")
            entries = self.expected.scanned * _SCAN
            read = (self.expected.read + entries) * one.documents
            if one.is_short or not self._has_index or rows <= max(200, read):
                length = FEW if one.is_short else rows
                got = self._walk(one.slice, where, need, length)
                passed, slices = [one], slices[1:]
            else:
                passed, slices = self._group(slices, need, rate)
                got = self._read([part.slice for part in passed], where, need)
            found += got
            if all(part.is_whole for part in passed):
                # The words may be rarer together than each for itself says.
                documents = sum(part.documents for part in passed)
                rate = min(rate, (len(got) + 1) / max(1, documents))
        return found

    @property
    def _has_index(self) -> bool:
        """Return True if an index other than that of time leads to the matches."""
        of = self.conditions
        tiered = self.more.startswith("'")
        return tiered or of.is_anchored or of.authors is not None

    def _group(
        self, slices: Sequence[Stretch], need: int, rate: float
    ) -> tuple[list[Stretch], list[Stretch]]:
        """Return the slices to read at once: until they should hold enough."""
        expected, size = 0.0, 0
        for one in slices:
            size += 1
            expected += rate * one.documents
            if expected >= need / 2:
                break
        return [*slices[:size]], [*slices[size:]]

    def _walk(self, one: Slice, where: Condition, need: int, rows: float) -> list[Key]:
        """Return matches along the time index; to the end of the slice if need be."""
        found: list[Key] = []
        span = self.span
        length = next((w for w in _WALKS if w >= rows), _WALKS[-1])
        while True:
            got = self._step(one, where, span, length, need - len(found))
            found += got
            if len(found) >= need:
                return found
            end = self.reading.rows(
                f"""
                SELECT {_COLUMNS} FROM {one.table} d WHERE {SPAN}
                ORDER BY {ORDER} OFFSET {length - 1} LIMIT 1
                """,
                span.values,
            )
            if not end:
                return found
            # The rest of the slice, by the other index if there is one.
            span = replace(span, before=_keys(end)[0])
            if self._has_index:
                rest = self._read([one], where, need - len(found), span=span)
                return [*found, *rest]
            length = _WALKS[-1]

    def _step(
        self, one: Slice, where: Condition, span: Span, length: int, need: int
    ) -> list[Key]:
        rows = self.reading.rows(
            f"""
            SELECT {_COLUMNS} FROM (
                SELECT * FROM {one.table} d WHERE {SPAN}
                ORDER BY {ORDER} LIMIT {length}
            ) d WHERE {where[0]} ORDER BY {ORDER} LIMIT %s
            """,
            [*span.values, *where[1], need],
        )
        return _keys(rows)

    def _read(
        self,
        group: Sequence[Slice],
        where: Condition,
        need: int,
        *,
        span: Span | None = None,
    ) -> list[Key]:
        """Return matches by the GIN index, or the index of authors."""
        values = [*where[1], *(span or self.span).values]
        parts = " UNION ALL ".join(
            f"""
            (SELECT {_COLUMNS} FROM {one.table} d WHERE {where[0]} AND {HIDDEN}
             ORDER BY d.ts + '0'::interval DESC, d.actor DESC, d.collection DESC,
                      d.rkey DESC LIMIT %s)
            """
            for one in group
        )
        rows = self.reading.rows(
            f"SELECT * FROM ({parts}) d ORDER BY {ORDER} LIMIT %s",
            [*[*values, need] * len(group), need],
        )
        return _keys(rows)

    def _read_records(self, records: Sequence[tuple[int, int, int]]) -> list[Key]:
        source, values = records_source(records)
        where, given = self.conditions.where(self.more)
        rows = self.reading.rows(
            f"SELECT {_COLUMNS} FROM ({source}) d WHERE {where} AND {SPAN}"
            f" ORDER BY {ORDER} LIMIT %s",
            [*values, *given, *self.span.values, self.limit],
        )
        return _keys(rows)


def records_source(records: Sequence[tuple[int, int, int]]) -> Condition:
    """Return SQL of the documents of these records."""
    parts = " UNION ALL ".join(
        f"""
        SELECT d.* FROM x CROSS JOIN LATERAL (
            SELECT * FROM search_document_{n} d
            WHERE d.actor = x.a AND d.collection = x.c AND d.rkey = x.r OFFSET 0
        ) d
        """
        for n in range(5)
    )
    return (
        "WITH x AS MATERIALIZED (SELECT DISTINCT * FROM"
        " unnest(%s::int4[], %s::int4[], %s::int8[]) AS x(a, c, r))" + parts,
        [*int_columns(list(records), 3)],
    )


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of a slice in a span. A short one holds less than FEW documents."""

    slice: Slice
    documents: int
    is_short: bool = False
    is_whole: bool = False


def stretches_of(reading: Reading, span: Span) -> Iterator[Stretch]:
    """Yield the slices that a span reaches into, newest first."""
    newer: Slice | None = None
    for one in reading.slices:
        if span.holds(newer, one):
            few = FEW
            if span.since is not None and one.documents > FEW:
                few = _count_few(reading, one, span)
            whole = span.since is None and (
                span.before is None
                or (
                    (newer is not None and newer.bound is not None)
                    and span.before > newer.bound
                )
            )
            size = few if few < FEW else one.documents
            yield Stretch(one, size, few < FEW, whole)
        newer = one


def _count_few(reading: Reading, one: Slice, span: Span) -> int:
    sql = f"SELECT FROM {one.table} d WHERE {SPAN} LIMIT {FEW}"
    sql = f"SELECT count(*) FROM ({sql}) few"
    return int(reading.rows(sql, span.values)[0][0])


def _keys(rows: Sequence[Any]) -> list[Key]:
    return [Key(to_micros(row[3]), *row[:3]) for row in rows]
