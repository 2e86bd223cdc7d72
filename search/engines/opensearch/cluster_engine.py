"""The `opensearch` engine.

One index of records and one of accounts for each generation. Records are routed by
their quarter of a year, so that a search of a span of time asks few shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from search.engines.account_query import AccountQuery
from search.engines.contract import (
    ActorHit,
    RecordHit,
    RecordPage,
    TooCostlyError,
)
from search.engines.encoding import address_of, micros
from search.engines.external import ExternalEngine, Fields
from search.engines.external_server import Contents
from search.engines.external_state import Generation
from search.engines.live_likes import liked_posts
from search.engines.opensearch.actor_search import search_actors
from search.engines.opensearch.cluster_client import (
    OpenSearchClient,
    OpenSearchError,
)
from search.engines.opensearch.query import (
    ACTOR_MAPPINGS,
    RECORD_MAPPINGS,
    conditions,
    near_clause,
    near_words,
    template,
)
from search.query.nodes import Query
from storage.postgres.pool import Pool

_SORTS: Final = {"latest": ("ts", "id"), "top": ("tier", "score", "ts", "id")}
_QUARTER_US: Final = 91 * 86_400 * 1_000_000
_MOST_ROUTED: Final = 8
"""Spans of more quarters are searched on all shards."""
_FETCHED: Final = 1_000
_NEAR_HITS: Final = 200
_MAX_ROUNDS: Final = 20


class OpenSearchEngine(ExternalEngine):
    """The engine; `search.engines.contract.SearchEngine` documents its methods."""

    name = "opensearch"
    missing = "index_not_found_exception"

    def __init__(
        self, pool: Pool, client: OpenSearchClient, *, prefix: str = "bigworld"
    ) -> None:
        super().__init__(pool, client, prefix)
        self._client = client

    def _records(self, generation: Generation) -> str:
        return f"{self.prefix}_{generation.number}_records"

    def _actors(self, generation: Generation) -> str:
        return f"{self.prefix}_{generation.number}_actors"

    # --- searches ---

    def find_records(
        self,
        generation: Generation,
        query: Query,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None,
    ) -> RecordPage:
        """Return a page of records, from the shards of its times."""
        index = self._records(generation)
        if after is not None and after[0] == 1:
            return self._near(index, query, collections, int(after[1]), limit)
        page = self._exact(index, query, collections, limit, after)
        if page.hits or after is not None:
            return page
        return self._near(index, query, collections, 0, limit)

    def _exact(
        self,
        index: str,
        query: Query,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None,
    ) -> RecordPage:
        names = _SORTS[query.sort]
        body: dict[str, Any] = {
            "query": {"bool": {"filter": conditions(query, collections)}},
            "sort": [{name: "desc"} for name in names],
            "size": limit,
            "_source": False,
            "track_total_hits": after is None,
        }
        if after is not None:
            body["search_after"] = after[1:]
        found: list[RecordHit] = []
        total: int | None = None
        for _ in range(_MAX_ROUNDS):
            hits = self._client.search(index, body, routing=_routing(query))
            if after is None and total is None:
                total = int(hits["total"]["value"])
            found += self._liked(query, hits["hits"])
            if len(hits["hits"]) < limit or len(found) >= limit:
                known = total if query.min_likes == 0 else None
                return RecordPage(found[:limit], known)
            body |= {
                "search_after": hits["hits"][-1]["sort"],
                "track_total_hits": False,
            }
        raise TooCostlyError("the search took too long; add a word or an author")

    def _liked(self, query: Query, hits: Sequence[Fields]) -> list[RecordHit]:
        ids = [hit["_id"] for hit in hits]
        kept = set(ids)
        if query.min_likes > 0:
            kept = liked_posts(self.pool, ids, query.min_likes)
        return [
            RecordHit(address_of(hit["_id"]), [0, *hit["sort"]])
            for hit in hits
            if hit["_id"] in kept
        ]

    def _near(
        self,
        index: str,
        query: Query,
        collections: Sequence[int],
        offset: int,
        limit: int,
    ) -> RecordPage:
        """Return matches with typos, else those without one of three words or more."""
        words = near_words(query.where)
        for least in (words, words - 1) if words >= 3 else (words,):
            near = near_clause(query.where, least)
            size = min(limit, _NEAR_HITS - offset)
            if near is None or size < 1:
                break
            *filters, _ = conditions(query, collections)
            body = {
                "query": {"bool": {"filter": filters, "must": [near]}},
                "sort": [{"_score": "desc"}, {"ts": "desc"}, {"id": "desc"}],
                "from": offset,
                "size": size,
                "_source": False,
            }
            hits = self._client.search(index, body, routing=_routing(query))["hits"]
            kept = {hit.address for hit in self._liked(query, hits)}
            found = [
                RecordHit(address, [1, offset + i + 1])
                for i, address in enumerate(address_of(hit["_id"]) for hit in hits)
                if address in kept
            ]
            if found:
                return RecordPage(found)
        return RecordPage([], 0 if offset == 0 else None)

    def find_actors(
        self, generation: Generation, query: AccountQuery
    ) -> list[ActorHit]:
        """Return a page of accounts."""
        return search_actors(self._client, self._actors(generation), query)

    def measure(self, generation: Generation) -> Contents:
        """Return counts and the time of the newest record."""
        index = self._records(generation)
        body = {"sort": [{"ts": "desc"}], "size": 1, "_source": False}
        found = self._client.search(index, body)["hits"]
        return Contents(
            self._client.count(index),
            self._client.count(self._actors(generation)),
            int(found[0]["sort"][0]) if found else None,
        )

    # --- writes ---

    def prepare(self, generation: Generation) -> None:
        """Put the templates, then make the indexes."""
        self.check_version()
        for kind, mappings, index in (
            ("records", RECORD_MAPPINGS, self._records(generation)),
            ("actors", ACTOR_MAPPINGS, self._actors(generation)),
        ):
            body = template(f"{self.prefix}_*_{kind}", mappings)
            self._client.call("PUT", f"/_index_template/{self.prefix}_{kind}", body)
            try:
                self._client.call("PUT", f"/{index}")
            except OpenSearchError as error:
                if error.code != "resource_already_exists_exception":
                    raise

    def discard(self, keep: Sequence[Generation]) -> None:
        """Delete all indexes but those of these generations."""
        kept = {name for g in keep for name in (self._records(g), self._actors(g))}
        found = self._client.call(
            "GET", f"/_cat/indices/{self.prefix}_*?format=json&h=index"
        )
        for name in sorted(one["index"] for one in found):
            if name not in kept:
                self._client.call("DELETE", f"/{name}")

    def write(
        self,
        generation: Generation,
        records: Sequence[Fields],
        actors: Sequence[Fields],
    ) -> Generation:
        """Write documents; those that moved to another quarter leave the old one."""
        by_id = {document["id"]: document for document in records}
        index = self._records(generation)
        # Both are asked: the cluster would make an index that is missing.
        self._client.count(self._actors(generation))
        lines: list[tuple[Fields, Any]] = [
            (_action("delete", index, one, routing), None)
            for one, routing in self._existing(index, list(by_id))
            if routing != _quarter(by_id[one]["ts"])
        ]
        lines += [
            (_action("index", index, one, _quarter(document["ts"])), document)
            for one, document in by_id.items()
        ]
        lines += [
            (_action("index", self._actors(generation), one["id"]), one)
            for one in actors
        ]
        self._client.bulk(lines)
        return generation

    def _existing(self, index: str, ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return the IDs that exist, each with its routing."""
        found: list[tuple[str, str]] = []
        for i in range(0, max(1, len(ids)), _FETCHED):
            body = {
                "query": {"ids": {"values": list(ids[i : i + _FETCHED])}},
                "size": 2 * _FETCHED,
                "_source": False,
            }
            hits = self._client.search(index, body)["hits"]
            found += [(hit["_id"], hit["_routing"]) for hit in hits]
        return found

    def remove(
        self, generation: Generation, ids: Sequence[str], actors: Sequence[int]
    ) -> None:
        """Remove documents by ID; those of accounts are found first."""
        index = self._records(generation)
        lines: list[tuple[Fields, Any]] = [
            (_action("delete", index, one, routing), None)
            for one, routing in self._existing(index, ids)
        ]
        lines += [
            (_action("delete", self._actors(generation), str(actor)), None)
            for actor in actors
        ]
        self._client.bulk(lines)
        while actors:
            body = {
                "query": {"terms": {"actor": [int(actor) for actor in actors]}},
                "size": _FETCHED,
                "_source": False,
            }
            hits = self._client.search(index, body)["hits"]
            if not hits:
                break
            self._client.bulk(
                [
                    (_action("delete", index, hit["_id"], hit["_routing"]), None)
                    for hit in hits
                ]
            )


def _action(
    action: str, index: str, document_id: str, routing: str | None = None
) -> Fields:
    fields = {"_index": index, "_id": document_id}
    return {action: fields if routing is None else {**fields, "routing": routing}}


def _quarter(ts: int) -> str:
    return f"q{ts // _QUARTER_US}"


def _routing(query: Query) -> list[str]:
    """Return the quarters of a bounded span of time, none for a long one."""
    if query.since is None or query.until is None:
        return []
    first = micros(query.since) // _QUARTER_US
    last = micros(query.until) // _QUARTER_US
    if last - first >= _MOST_ROUTED:
        return []
    return [f"q{n}" for n in range(first, last + 1)]
