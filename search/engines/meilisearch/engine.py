"""The `meilisearch` engine: writes and upkeep.

Records lie in time slices (`search.slices`), each an index; accounts in one more. The
searches are in `record_search` and `actor_search`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from search.engines.account_query import AccountQuery
from search.engines.contract import ActorHit, RecordPage
from search.engines.external import ExternalEngine, Fields
from search.engines.external_server import Contents
from search.engines.external_state import Generation
from search.engines.meilisearch.actor_search import ActorSearch
from search.engines.meilisearch.index_client import MeiliClient
from search.engines.meilisearch.index_settings import ACTOR_SETTINGS, RECORD_SETTINGS
from search.engines.meilisearch.record_search import RecordSearch
from search.query.nodes import Query
from search.slices import (
    HOT_RECORDS,
    Slice,
    begin,
    counted,
    is_full,
    mark_merging,
    merged,
    next_merge,
    targets,
)
from storage.postgres.pool import Pool

_COPIED: Final = 2_000
"""Records of one step of a merge."""
_DELETED: Final = 1_000


class MeilisearchEngine(ExternalEngine):
    """The engine; `search.engines.contract.SearchEngine` documents its methods."""

    name = "meilisearch"
    missing = "index_not_found"

    def __init__(
        self,
        pool: Pool,
        client: MeiliClient,
        *,
        prefix: str = "bigworld",
        hot_records: int = HOT_RECORDS,
    ) -> None:
        super().__init__(pool, client, prefix)
        self._client = client
        self._hot_records = hot_records
        self._records = RecordSearch(client, pool, self.index_of)
        self._actors = ActorSearch(client)
        self._retired = ""

    def index_of(self, generation: Generation, slice_number: int | None = None) -> str:
        """Return the name of a slice's index, or that of the accounts."""
        part = "actors" if slice_number is None else str(slice_number)
        return f"{self.prefix}_{generation.number}_{part}"

    def find_records(
        self,
        generation: Generation,
        query: Query,
        collections: Sequence[int],
        limit: int,
        after: list[Any] | None,
    ) -> RecordPage:
        """Return a page of records, from the slices of its times."""
        return self._records.search(generation, query, collections, limit, after)

    def find_actors(
        self, generation: Generation, query: AccountQuery
    ) -> list[ActorHit]:
        """Return a page of accounts."""
        return self._actors.search(self.index_of(generation), query)

    def measure(self, generation: Generation) -> Contents:
        """Return counts, slices and waiting tasks."""
        records = (
            self._client.count(self.index_of(generation, one.number))
            for one in generation.slices
        )
        return Contents(
            sum(records),
            self._client.count(self.index_of(generation)),
            self._newest(generation, generation.slices[0]),
            f"{len(generation.slices)} slices, {self._client.enqueued()} tasks wait",
        )

    # --- writes ---

    def prepare(self, generation: Generation) -> None:
        """Make the indexes of a generation, settings before documents."""
        self.check_version()
        for one in generation.slices:
            self._client.create(self.index_of(generation, one.number), RECORD_SETTINGS)
        self._client.create(self.index_of(generation), ACTOR_SETTINGS)

    def discard(self, keep: Sequence[Generation]) -> None:
        """Delete all indexes but those of these generations."""
        kept = {self.index_of(g, one.number) for g in keep for one in g.slices}
        kept |= {self.index_of(g) for g in keep}
        for name in self._client.indexes(f"{self.prefix}_"):
            if name not in kept:
                self._client.drop(name)

    def write(
        self,
        generation: Generation,
        records: Sequence[Fields],
        actors: Sequence[Fields],
    ) -> Generation:
        """Write documents into the slices of their times and wait."""
        # One document may be named twice in a batch: the last one counts.
        by_id = {document["id"]: document for document in records}
        self.check_version()
        self._client.wait_for_room()
        places = self._places(generation, by_id)
        tasks = self._remove_stale(generation, places)
        for one in generation.slices:
            found = [by_id[i] for i, numbers in places.items() if one.number in numbers]
            if found:
                index = self.index_of(generation, one.number)
                tasks += self._client.put(index, found)
        if actors:
            tasks += self._client.put(self.index_of(generation), actors)
        self._client.wait(tasks)
        hot = generation.slices[0]
        added = sum(hot.number in numbers for numbers in places.values())
        if not added:
            return generation
        hot = replace(hot, records=hot.records + added)
        return replace(generation, slices=(hot, *generation.slices[1:]))

    def _places(
        self, generation: Generation, by_id: dict[str, Fields]
    ) -> dict[str, set[int]]:
        return {
            i: {one.number for one in targets(generation.slices, document["ts"])}
            for i, document in by_id.items()
        }

    def _remove_stale(
        self, generation: Generation, places: dict[str, set[int]]
    ) -> list[int]:
        """Remove documents from slices that are not theirs (any more).

        Every slice is asked, which also shows that its index exists: the server would
        make one that is missing, without settings.
        """
        tasks: list[int] = []
        for one in generation.slices:
            elsewhere = [
                i for i, numbers in places.items() if one.number not in numbers
            ]
            found = self._existing(self.index_of(generation, one.number), elsewhere)
            tasks += self._client.delete(self.index_of(generation, one.number), found)
        self._existing(self.index_of(generation), [])
        return tasks

    def _existing(self, index: str, ids: Sequence[str]) -> list[str]:
        found: list[str] = []
        for i in range(0, max(1, len(ids)), _DELETED):
            some = list(ids[i : i + _DELETED]) or ["none"]
            body = {"ids": some, "fields": ["id"], "limit": _DELETED}
            found += [one["id"] for one in self._client.fetch(index, body)]
        return found

    def remove(
        self, generation: Generation, ids: Sequence[str], actors: Sequence[int]
    ) -> None:
        """Remove documents by ID; those of accounts are found first."""
        self._client.wait_for_room()
        tasks: list[int] = []
        for one in generation.slices:
            index = self.index_of(generation, one.number)
            tasks += self._client.delete(index, self._existing(index, ids))
            if actors:
                self._remove_accounts(index, actors)
        if actors:
            index = self.index_of(generation)
            found = self._existing(index, [str(actor) for actor in actors])
            tasks += self._client.delete(index, found)
        self._client.wait(tasks)

    def _remove_accounts(self, index: str, actors: Sequence[int]) -> None:
        numbers = ", ".join(str(int(actor)) for actor in actors)
        body = {
            "filter": f"actor IN [{numbers}]",
            "fields": ["id"],
            "limit": _DELETED,
        }
        while found := self._client.fetch(index, body):
            self._client.wait(self._client.delete(index, [one["id"] for one in found]))

    # --- upkeep ---

    def tend(self, generation: Generation) -> Generation | None:
        """Begin the next slice when the newest is full, or copy a step of a merge."""
        slices = generation.slices
        if not any(one.merging for one in slices) and is_full(
            slices, self._hot_records
        ):
            return self._begin_slice(generation)
        at = next_merge(slices)
        if at is None:
            return None
        return self._merge_step(generation, at)

    def _begin_slice(self, generation: Generation) -> Generation:
        records = [
            self._client.count(self.index_of(generation, one.number))
            for one in generation.slices
        ]
        slices = counted(generation.slices, records)
        newest = self._newest(generation, slices[0])
        if newest is None or not is_full(slices, self._hot_records):
            return replace(generation, slices=slices)
        number = max(one.number for one in slices) + 1
        changed = replace(generation, slices=begin(slices, newest + 1, number))
        self._client.create(self.index_of(changed, number), RECORD_SETTINGS)
        return changed

    def _newest(self, generation: Generation, one: Slice) -> int | None:
        body = {"sort": ["ts:desc"], "limit": 1, "fields": ["ts"]}
        found = self._client.fetch(self.index_of(generation, one.number), body)
        return int(found[0]["ts"]) if found else None

    def _merge_step(self, generation: Generation, at: int) -> Generation:
        newer, older = generation.slices[at : at + 2]
        if not newer.merging:
            # From now on changes are written to both.
            slices = mark_merging(generation.slices, at, None)
            return replace(generation, slices=slices)
        filters = [f"ts >= {newer.since}"] if newer.since is not None else []
        filters += [f"ts < {newer.until}"] if newer.until is not None else []
        if newer.copied is not None:
            ts, last = newer.copied
            filters.append(f'(ts > {ts} OR (ts = {ts} AND id > "{last}"))')
        found = self._client.fetch(
            self.index_of(generation, newer.number),
            {
                "filter": filters or "id EXISTS",
                "sort": ["ts:asc", "id:asc"],
                "limit": _COPIED,
            },
        )
        if found:
            self._client.wait_for_room()
            index = self.index_of(generation, older.number)
            self._client.wait(self._client.put(index, found))
            copied = (int(found[-1]["ts"]), str(found[-1]["id"]))
            slices = mark_merging(generation.slices, at, copied)
            return replace(generation, slices=slices)
        changed = replace(generation, slices=merged(generation.slices, at))
        # Searches that began before still ask the merged slice, and then look again.
        self._retired = self.index_of(generation, newer.number)
        return changed

    def maintain(self) -> bool:
        """Do one bounded step of upkeep; delete a merged slice once it is not asked."""
        self._retired = ""
        more = super().maintain()
        if self._retired:
            self._client.drop(self._retired)
        return more
