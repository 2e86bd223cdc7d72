"""Searches of accounts in Meilisearch: by filters, so that they are exact and paged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from search.engines.contract import ActorHit
from search.engines.encoding import encode_token, encode_value
from search.engines.meilisearch.index_client import MeiliClient
from search.engines.meilisearch.index_settings import LOCALES
from search.engines.meilisearch.plan import quoted
from search.query.nodes import Kind
from search.text.tokens import query_tokens

_EXACT: Final = 2
_FOLLOWED: Final = 1
_OTHER: Final = 0
_NEAR: Final = -1
_NEAR_HITS: Final = 100
_MAX_TOKENS: Final = 16
_MAX_FOLLOWS: Final = 5_000


@dataclass(frozen=True, slots=True)
class ActorSearch:
    """Searches of the index of accounts."""

    client: MeiliClient

    def search(
        self,
        index: str,
        field: str,
        text: str,
        limit: int,
        after: list[Any] | None,
        follows: Sequence[int],
    ) -> list[ActorHit]:
        """Return accounts whose `field` holds every word, the last one perhaps begun.

        A keyset is (rank, followers, actor): the exact handle, followed ones, others.
        """
        wanted = text.replace("\0", " ").strip().removeprefix("@").lower()
        tokens = [
            encode_token(token)
            for clause in query_tokens(wanted)[:_MAX_TOKENS]
            for token in clause.tokens
        ][:_MAX_TOKENS]
        if not tokens or limit < 1:
            return []
        if after is not None and after[0] == _NEAR:
            return self._near(index, tokens, int(after[1]), limit)
        hits: list[ActorHit] = []
        queries, ranks = self._queries(index, field, tokens, wanted, after, follows)
        results = self.client.search([{**one, "limit": limit} for one in queries])
        for rank, result in zip(ranks, results, strict=True):
            hits += [
                ActorHit(one["actor"], [rank, one["followers"], one["actor"]])
                for one in result["hits"]
            ]
        if not hits and after is None:
            return self._near(index, tokens, 0, limit)
        return hits[:limit]

    def _queries(
        self,
        index: str,
        field: str,
        tokens: Sequence[str],
        wanted: str,
        after: list[Any] | None,
        follows: Sequence[int],
    ) -> tuple[list[dict[str, Any]], list[int]]:
        handle = f"handle = {quoted(encode_value(Kind.AUTHOR, wanted))}"
        numbers = ", ".join(str(int(actor)) for actor in follows[:_MAX_FOLLOWS])
        followed = f"actor IN [{numbers}]"
        words = [f"{field} = {quoted(token)}" for token in tokens[:-1]]
        words.append(f"{field} STARTS WITH {quoted(tokens[-1])}")
        groups = {
            _EXACT: [handle],
            _FOLLOWED: [f"NOT ({handle})", followed],
            _OTHER: [f"NOT ({handle})", f"NOT ({followed})"],
        }
        if not follows:
            groups = {_EXACT: [handle], _OTHER: [f"NOT ({handle})"]}
        queries, ranks = [], []
        for rank, filters in groups.items():
            if after is not None and rank > after[0]:
                continue
            more = [*words, *filters]
            if after is not None and rank == after[0]:
                followers, actor = int(after[1]), int(after[2])
                more.append(
                    f"(followers < {followers} OR "
                    f"(followers = {followers} AND actor < {actor}))"
                )
            queries.append({**_base(index), "q": "", "filter": more})
            ranks.append(rank)
        return queries, ranks

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
