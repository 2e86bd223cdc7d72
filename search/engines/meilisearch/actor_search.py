"""Searches of accounts in Meilisearch: by filters, so that they are exact and paged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from search.engines.account_query import EXACT, FOLLOWED, OTHER, AccountQuery
from search.engines.contract import ActorHit
from search.engines.meilisearch.index_client import MeiliClient
from search.engines.meilisearch.index_settings import LOCALES
from search.engines.meilisearch.plan import quoted

_NEAR: Final = -1
_NEAR_HITS: Final = 100


@dataclass(frozen=True, slots=True)
class ActorSearch:
    """Searches of the index of accounts."""

    client: MeiliClient

    def search(self, index: str, query: AccountQuery) -> list[ActorHit]:
        """Return a page of accounts; without any match, near matches follow."""
        after, limit = query.after, query.limit
        if after is not None and after[0] == _NEAR:
            return self._near(index, query.tokens, int(after[1]), limit)
        hits: list[ActorHit] = []
        queries = self._queries(index, query)
        results = self.client.search([{**one, "limit": limit} for one in queries])
        for rank, result in zip(query.ranks, results, strict=True):
            hits += [
                ActorHit(one["actor"], [rank, one["followers"], one["actor"]])
                for one in result["hits"]
            ]
        if not hits and after is None:
            return self._near(index, query.tokens, 0, limit)
        return hits[:limit]

    def _queries(self, index: str, query: AccountQuery) -> list[dict[str, Any]]:
        handle = f"handle = {quoted(query.handle)}"
        followed = f"actor IN [{', '.join(map(str, query.follows))}]"
        *whole, last = query.tokens
        words = [f"{query.field} = {quoted(token)}" for token in whole]
        words.append(f"{query.field} STARTS WITH {quoted(last)}")
        others = [f"NOT ({followed})"] if query.follows else []
        groups = {
            EXACT: [handle],
            FOLLOWED: [f"NOT ({handle})", followed],
            OTHER: [f"NOT ({handle})", *others],
        }
        queries = []
        for rank in query.ranks:
            more = [*words, *groups[rank]]
            if query.after is not None and rank == query.after[0]:
                followers, actor = int(query.after[1]), int(query.after[2])
                more.append(
                    f"(followers < {followers} OR "
                    f"(followers = {followers} AND actor < {actor}))"
                )
            queries.append({**_base(index), "q": "", "filter": more})
        return queries

    def _near(
        self, index: str, tokens: Sequence[str], offset: int, limit: int
    ) -> list[ActorHit]:
        """Return accounts by handle or name with typos."""
        query = {
            **_base(index),
            "q": " ".join(tokens),
            "matchingStrategy": "all",
            "limit": _NEAR_HITS,
        }
        del query["sort"]
        found = self.client.search([query])[0]["hits"]
        return [
            ActorHit(one["actor"], [_NEAR, offset + i + 1])
            for i, one in enumerate(found[offset : offset + limit])
        ]


def _base(index: str) -> dict[str, Any]:
    return {
        "indexUid": index,
        "sort": ["followers:desc", "actor:desc"],
        "attributesToRetrieve": ["actor", "followers"],
        "locales": LOCALES,
    }
