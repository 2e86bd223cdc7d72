"""Searches of records in Meilisearch.

Latest asks slices newest first; top asks all of them and merges. Pages continue after
the sort values of the last hit, never by an offset.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from search.engines.contract import RecordHit, RecordPage, TooCostlyError
from search.engines.encoding import (
    address_of,
    encode_query,
    encoded_terms,
    micros,
)
from search.engines.external_state import Generation
from search.engines.live_likes import liked_posts
from search.engines.meilisearch.index_client import MeiliClient
from search.engines.meilisearch.index_settings import LOCALES, MAX_HITS
from search.engines.meilisearch.plan import (
    Part,
    Plan,
    loose_texts,
    plan,
    query_text,
    range_filters,
)
from search.query.nodes import Query
from search.slices import Slice, walk
from search.terms import holds
from storage.postgres.pool import Pool

_SORTS: Final = {
    "latest": ("ts", "id"),
    "top": ("tier", "score", "ts", "id"),
}
_LOOSE_HITS: Final = 200
"""Near matches of a query, all pages together."""
_BUDGET_S: Final = 2.0
"""Seconds of a search that must check documents."""

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordSearch:
    """Searches over the slices of a generation."""

    client: MeiliClient
    pool: Pool
    index_of: Callable[[Generation, int], str]

    def search(
        self,
        generation: Generation,
        query: Query,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None,
    ) -> RecordPage:
        """Return a page; the first value of a keyset is 0 for exact matches."""
        run = _Run(self, generation, query, collections, plan(query.where))
        if not run.plan.parts:
            return RecordPage([], 0 if after is None else None)
        if after is not None and after[0] == 1:
            return run.near(int(after[1]), limit)
        hits = run.exact(limit, None if after is None else after[1:])
        if not hits and after is None:
            return run.near(0, limit)
        return RecordPage(hits, run.total if after is None else None)


class _Run:
    """One search."""

    def __init__(
        self,
        search: RecordSearch,
        generation: Generation,
        query: Query,
        collections: Sequence[int],
        plan: Plan,
    ) -> None:
        self._search = search
        self._generation = generation
        self._query = query
        self.plan = plan
        self._encoded = encode_query(query.where)
        self._sort = _SORTS[query.sort]
        self._range = range_filters(query, collections)
        self._checks = plan.check or query.min_likes > 0
        self._deadline = time.monotonic() + _BUDGET_S
        self.total: int | None = None

    def exact(self, limit: int, after: list[Any] | None) -> list[RecordHit]:
        """Return exact matches after a keyset, in order."""
        if self._query.sort == "top":
            groups: Iterable[tuple[Slice, ...]] = [self._generation.slices]
        else:
            groups = walk(self._generation.slices, *self._times(after))
        found: list[Fields] = []
        totals: list[int] = []
        for group in groups:
            more, total = self._fill(group, limit - len(found), after)
            found += more
            totals.append(total)
            if len(found) >= limit:
                break
        else:
            self._set_total(totals, after)
        return [
            RecordHit(address_of(one["id"]), [0, *(one[name] for name in self._sort)])
            for one in found[:limit]
        ]

    def _times(self, after: list[Any] | None) -> tuple[int | None, int | None]:
        query = self._query
        since = None if query.since is None else micros(query.since)
        ends = [] if query.until is None else [micros(query.until)]
        ends += [] if after is None else [int(after[0]) + 1]
        return since, min(ends, default=None)

    def _set_total(self, totals: list[int], after: list[Any] | None) -> None:
        exact = not self._checks and len(self.plan.parts) == 1
        if after is None and exact:
            self.total = sum(totals)

    def _fill(
        self, group: Sequence[Slice], limit: int, after: list[Any] | None
    ) -> tuple[list[Fields], int]:
        """Return up to `limit` matches of slices; ask on while the check drops some."""
        found: list[Fields] = []
        total, wanted = 0, min(limit, MAX_HITS)
        while True:
            page, total = self._ask(group, wanted, after)
            found += self._checked(page)
            if len(page) < wanted or len(found) >= limit:
                return found[:limit], total
            if time.monotonic() > self._deadline:
                raise TooCostlyError(
                    "the search took too long; add a word, an author or a date"
                )
            after = [page[-1][name] for name in self._sort]
            wanted = min(MAX_HITS, wanted * 2)

    def _ask(
        self, group: Sequence[Slice], limit: int, after: list[Any] | None
    ) -> tuple[list[Fields], int]:
        queries = [
            self._request(one, part, limit, after)
            for one in group
            for part in self.plan.parts
        ]
        results = self._search.client.search(queries)
        by_id = {one["id"]: one for result in results for one in result["hits"]}
        merged = sorted(by_id.values(), key=self._key, reverse=True)
        total = sum(result.get("estimatedTotalHits", 0) for result in results)
        return merged[:limit], total

    def _key(self, document: Fields) -> tuple[Any, ...]:
        return tuple(document[name] for name in self._sort)

    def _request(
        self, one: Slice, part: Part, limit: int, after: list[Any] | None
    ) -> dict[str, Any]:
        request = self._base(one, part)
        request |= {
            "q": query_text(part),
            "sort": [f"{name}:desc" for name in self._sort],
            "matchingStrategy": "all",
            "limit": limit,
        }
        if after is not None:
            request["filter"].append(_after(self._sort, after))
        return request

    def _base(self, one: Slice, part: Part) -> dict[str, Any]:
        fields = ["id", *(name for name in _SORTS["top"] if name != "id")]
        filters = [*self._range, *_slice_filters(one), *part.filters]
        return {
            "indexUid": self._search.index_of(self._generation, one.number),
            "filter": filters,
            "attributesToRetrieve": ["*"] if self.plan.check else fields,
            "locales": LOCALES,
        }

    def _checked(self, page: list[Fields]) -> list[Fields]:
        if self.plan.check:
            page = [one for one in page if holds(self._encoded, encoded_terms(one))]
        if self._query.min_likes > 0 and page:
            least = self._query.min_likes
            liked = liked_posts(self._search.pool, [one["id"] for one in page], least)
            page = [one for one in page if one["id"] in liked]
        return page

    def near(self, offset: int, limit: int) -> RecordPage:
        """Return near matches: with typos, else without one of three words or more."""
        if len(self.plan.parts) != 1 or self.plan.check:
            return RecordPage([], 0 if offset == 0 else None)
        part = self.plan.parts[0]
        found: list[Fields] = []
        for left_out in (False, True):
            texts = loose_texts(part, left_out)
            found = self._near_hits(part, texts, "all") if texts else []
            if found:
                break
        if not found and len(part.required) > 5:
            found = self._near_hits(part, loose_texts(part, False), "last")
        hits = [
            RecordHit(address_of(one["id"]), [1, offset + i + 1])
            for i, one in enumerate(found[offset : offset + limit])
        ]
        return RecordPage(hits, len(found) if offset == 0 else None)

    def _near_hits(
        self, part: Part, texts: Sequence[str], strategy: str
    ) -> list[Fields]:
        queries = [
            {
                **self._base(one, part),
                "q": text,
                "matchingStrategy": strategy,
                "showRankingScore": True,
                "limit": _LOOSE_HITS,
            }
            for one in self._generation.slices
            for text in texts
        ]
        best: dict[str, Fields] = {}
        for result in self._search.client.search(queries) if queries else ():
            for one in result["hits"]:
                known = best.get(one["id"])
                if known is None or known["_rankingScore"] < one["_rankingScore"]:
                    best[one["id"]] = one
        ordered = sorted(
            self._checked([*best.values()]),
            key=lambda one: (one["_rankingScore"], *self._key(one)),
            reverse=True,
        )
        return ordered[:_LOOSE_HITS]


def _slice_filters(one: Slice) -> list[str]:
    filters = [f"ts >= {one.since}"] if one.since is not None else []
    return filters + ([f"ts < {one.until}"] if one.until is not None else [])


def _after(names: Sequence[str], values: Sequence[Any]) -> str:
    """Return the filter of what comes after these values in descending order."""
    text = ""
    for name, value in reversed(list(zip(names, values, strict=True))):
        shown = f'"{value}"' if name == "id" else str(int(value))
        less = f"{name} < {shown}"
        text = f"({less} OR ({name} = {shown} AND {text}))" if text else less
    return text
